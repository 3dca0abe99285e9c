"""`api_keys`: the callers' keys (control-plane 3.2). Only the hash of a key is ever stored.

`key_hash` is no Secret: it is shown by the admin API and compared, but never quoted in a log or message.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from .kind import Kind
from .rate_limit import RateLimit
from .reference import Reference, by_name
from .scalars import STRICT, U32, U64, Text


class McpAccess(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Patterns of MCP tools the key may call (`<server>__<tool>`, one `*` at most)."""

    allow: Annotated[tuple[str, ...], STRICT] = ()
    deny: tuple[str, ...] | None = None


class McpRateLimit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Requests to one MCP server; None: not limited."""

    rps: U64 | None = None
    rpm: U64 | None = None
    rph: U64 | None = None
    rpd: U64 | None = None
    concurrency: U32 | None = None


class PreviousKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A key that was rotated away and still opens the same row for a while."""

    hash: Text
    """As `key_hash`."""
    until: Annotated[datetime, Meta(tz=True)]
    """Still valid at this instant."""

    def __repr__(self) -> str:
        return f"PreviousKey(until={self.until!r})"


class ApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One caller key. `gc=False`: rows hold no cycles, and there are tens of thousands of them."""

    key_hash: Text
    """SHA-256 of the key, lower-case hex (see `hash_key`). Not checked: another form simply never matches."""
    allowed_models: tuple[str, ...]
    """Names or patterns with one `*`; empty allows none."""
    display_name: str | None = None
    """A label for people and header templates."""
    rate_limit: RateLimit | None = None
    team_id: Text | None = None
    user_id: Text | None = None
    user_name: str | None = None
    jwt_subject: Text | None = None
    jwt_provider: Text | None = None
    mcp_access: McpAccess | None = None
    mcp_rate_limits: dict[str, McpRateLimit] | None = None
    allowed_agents: tuple[str, ...] | None = None
    """None and empty allow none."""
    allowed_routes: tuple[str, ...] | None = None
    """None and empty allow none."""
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None
    """Still valid at this instant, expired strictly after."""
    disabled: bool = False
    previous_keys: tuple[PreviousKey, ...] = ()
    """Ours: other gateways on the same etcd ignore it."""

    def __repr__(self) -> str:
        return f"ApiKey(display_name={self.display_name!r})"


def hash_key(plaintext: str) -> str:
    """The `key_hash` of a caller key: SHA-256 of its UTF-8 bytes without surrounding whitespace, lower-case hex.

    Never raises: text that is no UTF-8 (as HTTP headers may hold) gets a hash that no row has.
    """
    return hashlib.sha256(plaintext.strip().encode("utf-8", "surrogatepass")).hexdigest()


def references(value: ApiKey) -> Sequence[Reference]:
    """Soft ones only: what a key may use is often made after the key."""
    found = by_name("models", ("allowed_models",), value.allowed_models, hard=False)
    found += by_name("passthrough_routes", ("allowed_routes",), value.allowed_routes or (), hard=False)
    if value.jwt_provider is not None:
        found.append(Reference(("jwt_provider",), "oidc_providers", "name", value.jwt_provider, hard=False))
    return found


API_KEYS: Final = Kind(
    "api_keys",
    ApiKey,
    name_field="key_hash",
    label_field="display_name",
    nulls=True,
    tombstones=frozenset({"mcp_access.mode"}),
    terse=frozenset({"disabled", "previous_keys"}),
    references=references,
    resolvable={"key_hash": hash_key},
)
