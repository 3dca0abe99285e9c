"""Whether a secret manager can be reached, asked of every proxy and answered by each: leased rows of etcd (design 5).

    <run root>/probes/<token>                 the admin asks
    <run root>/asking/<token>/<instance>      a proxy answers

Nothing of a secret is in either of them. Pure: who writes and who reads is not known here.
"""

from typing import Final, TypeVar

import msgspec

LEASE_SECONDS: Final = 30
"""How long a row of either sort lives."""
LONGEST_REASON: Final = 500
"""Characters of a reason; more is cut off."""


class Probe(msgspec.Struct, frozen=True):
    """Whether `provider` (`<manager>/<name>`) can be reached. Readers of other versions may find more in it."""

    token: str
    """Names the question: 32 hex digits."""
    provider: str
    asked_at: str
    """RFC 3339."""
    path: tuple[str, ...] | None = None
    """A secret that is to be read, too, in segments without the provider; its value is never told. None: none is."""


class ProbeAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one proxy found."""

    instance: str
    hostname: str
    ok: bool
    reason: str = ""
    """Why not, for operators; empty where `ok`."""
    ms: int = 0
    """Milliseconds that it took."""


_Row = TypeVar("_Row", bound="Probe | ProbeAnswer")


def probes_prefix(run_root: str) -> str:
    """What the keys of all questions begin with."""
    return f"{run_root}/probes/"


def probe_key(run_root: str, token: str) -> str:
    """The key of a question."""
    return f"{probes_prefix(run_root)}{token}"


def answers_prefix(run_root: str, token: str) -> str:
    """What the keys of the answers to one question begin with."""
    return f"{run_root}/asking/{token}/"


def answer_key(run_root: str, token: str, instance: str) -> str:
    """The key of one proxy's answer."""
    return f"{answers_prefix(run_root, token)}{instance}"


def encode(row: Probe | ProbeAnswer) -> bytes:
    """The value of a row. A reason that is too long is cut."""
    if isinstance(row, ProbeAnswer) and len(row.reason) > LONGEST_REASON:
        row = msgspec.structs.replace(row, reason=row.reason[: LONGEST_REASON - 1] + "…")
    return msgspec.json.encode(row)


def decode(value: bytes, row: type[_Row]) -> _Row | None:
    """The row that a value holds; None for what is none: whoever writes etcd may write anything."""
    try:
        return msgspec.json.decode(value, type=row)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
