"""Rate limit policies beyond the table: forms, depth without end, and the rows they name."""

from typing import Any

import pytest
from msgspec import json

from aisix_common.resources import RATE_LIMIT_POLICIES, Loaded, Refused, Rejected, check, read

LEAF = {"dimension": "model", "operator": "==", "value": "m"}
CLASSIC = {"name": "p", "scope": "team", "scope_ref": "t", "window": "day", "max_tokens": 1}


def nested(depth: int) -> dict[str, Any]:
    node: dict[str, Any] = LEAF
    for _ in range(depth):
        node = {"logic": "and", "children": [node]}
    return {"name": "p", "limits": {"rpm": 1}, "conditions": [node]}


def test_forms() -> None:
    assert not check(RATE_LIMIT_POLICIES, CLASSIC).conditional
    assert check(RATE_LIMIT_POLICIES, nested(2)).conditional


@pytest.mark.parametrize("depth", [3, 40, 200, 450, 2000])
def test_depth_has_an_end(depth: int) -> None:
    outcome = read(RATE_LIMIT_POLICIES, _text(depth))
    assert isinstance(outcome, Rejected)
    assert outcome.failure in ("schema_failed", "non_json")
    assert len(outcome.message) < 1000


@pytest.mark.parametrize("depth", [3, 40, 300])
def test_depth_has_an_end_for_writers(depth: int) -> None:
    with pytest.raises(Refused):
        check(RATE_LIMIT_POLICIES, nested(depth))


def test_a_schedule_that_cannot_be_meant_does_not_take_the_policy_away() -> None:
    """It never suspends; a policy that is lost for it would let everything through."""
    day = {"timezone": "Mars/Olympus", "days_of_week": ["mon"], "start_time": "00:00", "end_time": "24:00"}
    row = {**CLASSIC, "schedules": [day]}
    assert isinstance(read(RATE_LIMIT_POLICIES, json.encode(row)), Loaded)
    with pytest.raises(Refused) as refused:
        check(RATE_LIMIT_POLICIES, row)
    assert [flaw.pointer for flaw in refused.value.flaws] == ["/schedules/0/timezone"]
    assert "Mars" not in str(refused.value)


def _text(depth: int) -> bytes:
    node = b'{"logic":"and","children":[' * depth + json.encode(LEAF) + b"]}" * depth
    return b'{"name":"p","limits":{"rpm":1},"conditions":[' + node + b"]}"
