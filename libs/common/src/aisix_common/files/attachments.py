"""What becomes of guardrails and of the kinds that a file cannot hold, when rows go into one. Pure.

In a file every guardrail that is there holds everywhere, at priority 0: those attached to less cannot be said.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Verdict:
    """What is to be done with the guardrails."""

    off: set[str] = field(default_factory=set)
    """Ids of those that are written as disabled: every attachment of theirs is."""
    left_out: set[str] = field(default_factory=set)
    """Ids of those that cannot be written."""
    blocking: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def judge_guardrails(guardrails: Mapping[str, Any], attachments: Iterable[Any]) -> Verdict:
    """`guardrails` by id and all `attachments`, as typed resources."""
    verdict = Verdict()
    by_guardrail: dict[str, list[Any]] = {}
    for attachment in attachments:
        by_guardrail.setdefault(attachment.guardrail_id, []).append(attachment)
    priorities = set()
    for id, guardrail in guardrails.items():
        rows = by_guardrail.pop(id, [])
        active = [row for row in rows if row.enabled]
        everywhere = [row for row in active if row.scope_type == "env"]
        if rows and not active:
            verdict.off.add(id)
            verdict.notes.append(f"guardrail {id}: all its attachments are disabled: written as disabled")
        elif active and not everywhere:
            if guardrail.enabled:
                verdict.left_out.add(id)
                verdict.blocking.append(
                    f"guardrail {id}: is attached to single scopes, which a file cannot say: left out"
                )
        elif guardrail.enabled:
            priorities.add(max((row.priority for row in active), default=0))
    if len(priorities) > 1:
        verdict.blocking.append("guardrails: their priorities differ, which a file cannot say: their order changes")
    verdict.notes += [
        f"guardrail_attachments: {len(rows)} of the guardrail {id}, which is not there, left out"
        for id, rows in sorted(by_guardrail.items())
    ]
    return verdict


def judge_mcp_policies(policies: Sequence[Any]) -> Verdict:
    """MCP policies have no place in a file; those that are on narrow what callers may use."""
    verdict = Verdict()
    enabled = sum(policy.enabled for policy in policies)
    if enabled:
        verdict.blocking.append(f"mcp_policies: {enabled} enabled, which a file cannot hold: grants of tools change")
    if len(policies) > enabled:
        verdict.notes.append(f"mcp_policies: {len(policies) - enabled} disabled, left out")
    return verdict
