"""Whether this key may still spend, by the Cloud's word (data-plane 7.6). A gateway of its own asks nobody."""

from typing import Final

from aisix_common.managed.budgets import Denial

from ...canonical.errors import BudgetExceeded
from ..exchange import Exchange

NO_REASON: Final = "the budget of this API key is used up"
"""Where the Cloud refuses without a word."""
_LIFTED: Final = ("scope", "scope_ref", "limit_usd", "spent_usd", "period", "period_resets_at")


async def check_budget(exchange: Exchange) -> None:
    """Writes nothing. Raises BudgetExceeded; waits 250 ms at most, for a key nothing fresh is known of."""
    budgets = exchange.services.budgets
    if budgets is None:
        return
    key = exchange.key
    assert key is not None
    verdict = budgets.verdict(key.id)
    if verdict is None:
        verdict = await budgets.wait(key.id)
    if not verdict.allow:
        raise _exceeded(verdict.denial)


def _exceeded(denial: Denial) -> BudgetExceeded:
    details: dict[str, str | int] = {name: value for name in _LIFTED if (value := getattr(denial, name))}
    after = denial.retry_after_seconds
    if after is not None:
        details["retry_after_seconds"] = after = max(0, after)
    return BudgetExceeded(denial.message or NO_REASON, details=details, retry_after=after)
