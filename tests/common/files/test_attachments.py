"""What becomes of guardrails by their attachments."""

from typing import Any

import pytest

from aisix_common.files.attachments import Verdict, judge_guardrails, judge_mcp_policies
from aisix_common.resources import BY_NAME, check


def guardrail(enabled: bool = True) -> Any:
    return check(BY_NAME["guardrails"], {"name": "g", "kind": "keyword", "patterns": [], "enabled": enabled})


def attachment(scope: str, priority: int = 0, *, enabled: bool = True, of: str = "g") -> Any:
    document = {"guardrail_id": of, "scope_type": scope, "priority": priority, "enabled": enabled}
    return check(BY_NAME["guardrail_attachments"], document)


def judged(*attachments: Any, enabled: bool = True) -> Verdict:
    return judge_guardrails({"g": guardrail(enabled)}, attachments)


@pytest.mark.parametrize(
    "attachments",
    [(), (attachment("env"),), (attachment("env", 7),), (attachment("env"), attachment("model"))],
)
def test_those_that_hold_everywhere(attachments: tuple[Any, ...]) -> None:
    assert judged(*attachments) == Verdict()


def test_those_that_are_off() -> None:
    verdict = judged(attachment("env", enabled=False), attachment("model", enabled=False))
    assert (verdict.off, verdict.left_out, verdict.blocking) == ({"g"}, set(), [])


def test_those_that_hold_somewhere() -> None:
    verdict = judged(attachment("model"), attachment("env", enabled=False))
    assert (verdict.off, verdict.left_out) == (set(), {"g"})
    assert len(verdict.blocking) == 1
    assert judged(attachment("model"), enabled=False) == Verdict(), "it is off wherever it is attached"


def test_their_order() -> None:
    two = {"g": guardrail(), "h": guardrail()}
    assert judge_guardrails(two, [attachment("env", 0), attachment("env", 0, of="h")]).blocking == []
    assert len(judge_guardrails(two, [attachment("env", 3)]).blocking) == 1


def test_policies() -> None:
    documents: list[dict[str, Any]] = [{"scope": "env", "allow": [], "enabled": each} for each in (True, False, False)]
    verdict = judge_mcp_policies([check(BY_NAME["mcp_policies"], each) for each in documents])
    assert verdict.blocking == ["mcp_policies: 1 enabled, which a file cannot hold: grants of tools change"]
    assert verdict.notes == ["mcp_policies: 2 disabled, left out"]
