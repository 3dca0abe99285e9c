"""`mcp_policies`: which MCP tools an environment or a team may call (control-plane 3.10).

What a caller may is what every layer that exists allows (environment, team, the key's own), less what any denies.
"""

from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec

from .flaw import Flaw
from .kind import Kind
from .scalars import STRICT, Text


class McpPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One layer."""

    scope: Literal["env", "team"]
    scope_ref: Text | None = None
    """The team."""
    allow: Annotated[tuple[str, ...], STRICT] = ()
    """Patterns `<server>__<tool>`, one `*` at most."""
    deny: tuple[str, ...] = ()
    enabled: bool = True


def rules(value: McpPolicy, strict: bool) -> Sequence[Flaw]:
    """A team's layer says which team."""
    if value.scope == "team" and value.scope_ref is None:
        return [Flaw((), '"scope_ref" is a required property of a team\'s policy')]
    return ()


MCP_POLICIES: Final = Kind("mcp_policies", McpPolicy, name_field=None, nulls=True, rules=rules)
