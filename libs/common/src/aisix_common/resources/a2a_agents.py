"""`a2a_agents`: agents that callers reach through the gateway (control-plane 3.11)."""

from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from aisix_common.secret import Secret

from .flaw import Flaw
from .kind import Kind
from .scalars import PositiveU64, Text


class A2aAgent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One agent."""

    name: Annotated[str, Meta(min_length=1, pattern=r"^[^/?#%\s\x00-\x1f\x7f-\x9f]+\Z")]
    """A segment of paths, so it holds nothing that ends one. `display_name` is its older spelling."""
    url: Text
    protocol_version: Literal["1.0", "0.3"] = "1.0"
    auth_type: Literal["none", "bearer", "api_key"] = "none"
    secret: Secret | None = None
    timeout_ms: PositiveU64 | None = None
    enabled: bool = True


def rules(value: A2aAgent, strict: bool) -> Sequence[Flaw]:
    """Whoever authenticates needs something to do it with."""
    if value.auth_type != "none" and not value.secret:
        return [Flaw(("secret",), "must be given, and not be empty, with this auth_type")]
    return ()


A2A_AGENTS: Final = Kind(
    "a2a_agents",
    A2aAgent,
    name_field="name",
    nulls=True,
    rules=rules,
    renamed={"display_name": "name"},
    destinations=("url", "auth_type", "protocol_version"),
)
