"""The inline limits of a model or a caller key (control-plane 3.1)."""

import msgspec

from .scalars import U32, U64


class RateLimit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Tokens and requests per window; None: not limited there. 0 lets nothing through.

    Shared by kinds that accept null and kinds that do not: whether null may be written is the kind's policy.
    """

    tpm: U64 | None = None
    """Tokens a minute."""
    tpd: U64 | None = None
    """Tokens a day."""
    rps: U64 | None = None
    """Requests a second."""
    rpm: U64 | None = None
    """Requests a minute."""
    rph: U64 | None = None
    """Requests an hour."""
    rpd: U64 | None = None
    """Requests a day."""
    concurrency: U32 | None = None
    """Requests in flight."""
