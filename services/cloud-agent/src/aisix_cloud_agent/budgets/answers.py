"""What the Cloud answers to a budget check, as a decision (control-plane 6.5). Pure.

Tolerant in everything but `allow`: numbers may be texts and texts numbers, what makes no sense is left out. An answer
without a clear `allow` is none, and the decision before it stays.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec

from aisix_common.managed.budgets import Budget, Decision, Denial, FailMode

MOST_TEXT: Final = 256
"""Characters of a text of the Cloud's that are kept."""
_FAIL_MODES: Final[Mapping[object, FailMode]] = {"open": "open", "closed": "closed", "sticky": "sticky"}
_MOST_NUMBER: Final = 1e15
_LONGEST: Final = 366 * 86_400
"""Seconds until a budget may spend again; a longer one is cut."""


class NoAnswer(ValueError):
    """It says nothing of the key. Its text holds nothing of it."""


def read_decision(body: bytes, now: datetime) -> Decision:
    """`now` is when it came. Raises NoAnswer."""
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise NoAnswer("the answer is no JSON") from None
    if not isinstance(answer, dict):
        raise NoAnswer("the answer is no JSON object")
    allow = answer.get("allow")
    if not isinstance(allow, bool):
        raise NoAnswer("the answer does not say whether to allow (`allow` is neither true nor false)")
    fail_mode = answer.get("fail_mode")
    reason, budget = answer.get("reason"), answer.get("budget")
    return Decision(
        allow,
        int(now.timestamp()),
        _FAIL_MODES.get(fail_mode, "sticky") if isinstance(fail_mode, str) else "sticky",
        _denial(reason) if isinstance(reason, dict) else None,
        _budget(budget, now) if isinstance(budget, dict) else None,
    )


def _denial(reason: Mapping[str, object]) -> Denial:
    seconds = _first(reason, "retry_after_seconds", "reset_seconds")
    return Denial(
        message=_text(reason.get("message")),
        scope=_text(reason.get("scope")),
        scope_ref=_text(reason.get("scope_ref")),
        limit_usd=_amount(_first(reason, "limit_usd", "max_usd")),
        spent_usd=_amount(_number(reason.get("spent_usd"))),
        remaining_usd=_amount(_number(reason.get("remaining_usd"))),
        period=_text(reason.get("period")),
        period_resets_at=_text(reason.get("period_resets_at")),
        retry_after_seconds=None if seconds is None else math.ceil(min(max(seconds, 0), _LONGEST)),
    )


def _budget(budget: Mapping[str, object], now: datetime) -> Budget:
    seconds = _number(budget.get("reset_seconds"))
    if seconds is None:
        seconds = _until(budget.get("period_resets_at"), now)
    return Budget(
        limit_usd=_first(budget, "limit_usd", "max_usd"),
        spent_usd=_number(budget.get("spent_usd")),
        remaining_usd=_number(budget.get("remaining_usd")),
        reset_seconds=None if seconds is None else max(seconds, 0.0),
    )


def _first(fields: Mapping[str, object], *names: str) -> float | None:
    """The first of these that is a number."""
    return next((number for name in names if (number := _number(fields.get(name))) is not None), None)


def _number(value: object) -> float | None:
    """A finite number of a size that amounts and seconds have; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value[:64] if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and abs(number) <= _MOST_NUMBER else None


def _amount(number: float | None) -> str:
    """Dollars with two decimals, as callers see them (data-plane 7.6); empty: unknown."""
    return "" if number is None else f"{number:.2f}"


def _text(value: object) -> str:
    """Without control characters, as it goes to callers. A number is shown as a text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return ""
    text = str(value) if isinstance(value, int | float) else value[: 2 * MOST_TEXT]
    return "".join(c for c in text if c.isprintable())[:MOST_TEXT]


def _until(value: object, now: datetime) -> float | None:
    """Seconds until a moment in RFC 3339."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value[:64])
        aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return (aware - now).total_seconds()
    except (ValueError, OverflowError):
        return None
