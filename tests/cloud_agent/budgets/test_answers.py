"""What the Cloud's answers mean."""

import datetime as dt
import json
from typing import Any

import pytest

from aisix_cloud_agent.budgets.answers import MOST_TEXT, NoAnswer, read_decision
from aisix_common.managed.budgets import Budget, Decision, Denial

NOW = dt.datetime(2026, 6, 15, 12, tzinfo=dt.UTC)
AT = int(NOW.timestamp())


def read(**fields: Any) -> Decision:
    return read_decision(json.dumps({"allow": True} | fields).encode(), NOW)


def test_the_whole_answer() -> None:
    decision = read(
        allow=False,
        fail_mode="closed",
        reason={
            "message": "budget is spent",
            "scope": "team",
            "scope_ref": "t-1",
            "limit_usd": 10,
            "spent_usd": "12.5",
            "remaining_usd": -2.499,
            "period": "monthly",
            "period_resets_at": "2026-07-01T00:00:00Z",
            "retry_after_seconds": "59.2",
        },
        budget={"limit_usd": "10.00", "spent_usd": 12.5, "remaining_usd": "0", "reset_seconds": 60},
        more={"unknown": 1},
    )
    denial = Denial("budget is spent", "team", "t-1", "10.00", "12.50", "-2.50", "monthly", "2026-07-01T00:00:00Z", 60)
    assert decision == Decision(False, AT, "closed", denial, Budget(10.0, 12.5, 0.0, 60.0))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"allow": tru\x00\xff<html>',
        b'{"allow":"true"}',
        b'{"allow":1}',
        b'{"allow":null}',
        b"[" * 100_000,
    ],
)
def test_without_a_clear_allow_there_is_no_answer(body: bytes) -> None:
    with pytest.raises(NoAnswer) as caught:
        read_decision(body, NOW)
    assert "html" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "meant"),
    [("open", "open"), ("closed", "closed"), ("sticky", "sticky"), ("OPEN", "sticky"), (None, "sticky"), (7, "sticky")],
)
def test_an_unknown_fail_mode_is_sticky(given: object, meant: str) -> None:
    assert read(fail_mode=given).fail_mode == meant
    assert read().fail_mode == "sticky"


@pytest.mark.parametrize("given", [None, True, [], {}, "", "ten", "nan", "inf", "1e400", 1e16, "-1e16", "9" * 1000])
def test_an_amount_that_is_none_is_left_out(given: object) -> None:
    decision = read(reason={"limit_usd": given}, budget={"limit_usd": given, "reset_seconds": given})
    assert decision.denial == Denial()
    assert decision.budget == Budget()


@pytest.mark.parametrize("given", [None, 7, "text", [], True])
def test_parts_that_are_no_objects_are_left_out(given: object) -> None:
    decision = read(reason=given, budget=given)
    assert (decision.denial, decision.budget) == (None, None)


@pytest.mark.parametrize(
    ("reason", "seconds"),
    [
        ({"retry_after_seconds": 5, "reset_seconds": 9}, 5),
        ({"retry_after_seconds": None, "reset_seconds": "9"}, 9),
        ({"retry_after_seconds": 0}, 0),
        ({"retry_after_seconds": -3}, 0),
        ({"retry_after_seconds": 0.1}, 1),
        ({"retry_after_seconds": 1e12}, 366 * 86_400),
        ({}, None),
    ],
)
def test_when_a_denied_key_may_come_again(reason: dict[str, object], seconds: int | None) -> None:
    denial = read(allow=False, reason=reason).denial
    assert denial is not None
    assert denial.retry_after_seconds == seconds


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ({"max_usd": "7"}, Budget(limit_usd=7.0)),
        ({"limit_usd": 1, "max_usd": 2}, Budget(limit_usd=1.0)),
        ({"reset_seconds": -5}, Budget(reset_seconds=0.0)),
        ({"period_resets_at": "2026-06-15T12:01:00Z"}, Budget(reset_seconds=60.0)),
        ({"period_resets_at": "2026-06-15T14:01:00+02:00"}, Budget(reset_seconds=60.0)),
        ({"period_resets_at": "2026-06-15T11:59:00Z"}, Budget(reset_seconds=0.0)),
        ({"period_resets_at": "soon"}, Budget()),
        ({"period_resets_at": 7}, Budget()),
        ({"reset_seconds": 5, "period_resets_at": "2026-06-15T12:01:00Z"}, Budget(reset_seconds=5.0)),
    ],
)
def test_other_names_of_the_numbers(budget: dict[str, object], expected: Budget) -> None:
    assert read(budget=budget).budget == expected


def test_texts_are_cut_and_hold_no_control_characters() -> None:
    denial = read(reason={"message": "a\r\nSet-Cookie: x\x00" + "b" * 5000, "scope": 7, "scope_ref": True}).denial
    assert denial is not None
    assert denial.message.startswith("aSet-Cookie: xbbb")
    assert len(denial.message) == MOST_TEXT
    assert (denial.scope, denial.scope_ref) == ("7", "")
