"""The `aisix_budget_*` gauges (data-plane 10.1): read from the Cloud's decisions when somebody scrapes."""

from collections.abc import Callable, Iterable
from typing import Final

from aisix_common.managed.budgets import Budget
from aisix_common.metrics import Gauge, Metrics
from aisix_common.resources import ApiKey
from aisix_common.snapshot import Entry, Snapshot

MOST_SERIES: Final = 4000
"""Keys that are shown, of those in the snapshot: below what a metric may have."""
UNKNOWN: Final = "unknown"
_LABELS: Final = ("api_key_id", "team_id", "user_id")


class BudgetMetrics:
    """Registers the metrics."""

    def __init__(self, metrics: Metrics) -> None:
        def gauge(name: str, help: str) -> Gauge:
            return metrics.gauge(f"aisix_budget_{name}", help, _LABELS, merge="max")

        self._numbers: tuple[tuple[str, Gauge], ...] = (
            ("limit_usd", gauge("limit_usd", "What a caller key's budget allows for its period, by the Cloud's word.")),
            ("spent_usd", gauge("spent_usd", "What of that is spent.")),
            ("remaining_usd", gauge("remaining_usd", "What is left of it.")),
            ("reset_seconds", gauge("reset_seconds", "Seconds until the period ended, when the Cloud said so.")),
        )
        self._present = gauge("details_present", "Whether the Cloud told numbers with its last decision on the key.")
        self._metrics = metrics
        self._shown: dict[str, tuple[Entry[ApiKey], Budget | None, tuple[str, str, str]]] = {}

    def follow(self, budgets: Callable[[], Iterable[tuple[str, Budget | None]]], keys: Callable[[], Snapshot]) -> None:
        """Read the numbers from `budgets` whenever somebody scrapes, for keys that are in the snapshot."""
        self._metrics.before_collect(lambda: self._refresh(budgets(), keys()))

    def _refresh(self, budgets: Iterable[tuple[str, Budget | None]], snapshot: Snapshot) -> None:
        table = snapshot.table(ApiKey).by_id
        before, self._shown = self._shown, {}
        for id, budget in budgets:
            if len(self._shown) >= MOST_SERIES:
                break
            entry = table.get(id)
            if entry is None:
                continue
            old = before.pop(id, None)
            if old is not None and old[0] is entry and old[1] is budget:
                self._shown[id] = old
                continue
            if old is not None:
                self._forget(old[2])
            labels = (id, entry.value.team_id or UNKNOWN, entry.value.user_id or UNKNOWN)
            self._show(labels, budget)
            self._shown[id] = (entry, budget, labels)
        for _, _, labels in before.values():
            self._forget(labels)

    def _show(self, labels: tuple[str, str, str], budget: Budget | None) -> None:
        self._present.cell(*labels).set(float(budget is not None))
        for name, gauge in self._numbers:
            number: float | None = getattr(budget, name, None)
            if number is not None:
                gauge.cell(*labels).set(number)

    def _forget(self, labels: tuple[str, str, str]) -> None:
        self._present.forget(*labels)
        for _, gauge in self._numbers:
            gauge.forget(*labels)
