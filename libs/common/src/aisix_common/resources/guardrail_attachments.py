"""`guardrail_attachments`: where a guardrail applies (control-plane 3.5).

A guardrail without any row here applies to everything; one that has only disabled rows applies to nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

from .kind import Kind
from .reference import Reference, by_id
from .scalars import I32, Text
from .shapes import Tolerant

ScopeType: TypeAlias = Literal["env", "model", "mcp_server", "api_key", "team", "passthrough_route"]

SCOPES: Final[Mapping[str, str]] = {
    "model": "models",
    "mcp_server": "mcp_servers",
    "api_key": "api_keys",
    "passthrough_route": "passthrough_routes",
}
"""The kind of row that `scope_id` names. `team` names none of ours, `env` nothing."""


class GuardrailAttachment(Tolerant, frozen=True, forbid_unknown_fields=True, gc=False):
    """One guardrail at one place."""

    guardrail_id: Text
    scope_type: ScopeType
    priority: I32
    """Higher wins; then the narrower scope, then the id."""
    scope_id: str | None = None
    """Absent on a narrow scope: matches nothing."""
    enabled: bool = True
    env_id: str | None = None
    """Accepted and ignored."""


def references(value: GuardrailAttachment) -> Sequence[Reference]:
    """The guardrail, and the row it is attached to."""
    found = by_id("guardrails", ("guardrail_id",), value.guardrail_id)
    kind = SCOPES.get(value.scope_type)
    return found + by_id(kind, ("scope_id",), value.scope_id) if kind else found


GUARDRAIL_ATTACHMENTS: Final = Kind(
    "guardrail_attachments",
    GuardrailAttachment,
    name_field=None,
    nulls=True,
    references=references,
)
