"""What is counted of budget checks."""

from datetime import datetime
from typing import Final, Literal, TypeAlias

from aisix_common.metrics import Metrics

Result: TypeAlias = Literal["allowed", "denied", "refused", "unreadable", "unavailable"]
_RESULTS: Final[tuple[Result, ...]] = ("allowed", "denied", "refused", "unreadable", "unavailable")


class BudgetMetrics:
    """Registers them; all labels are there from the start."""

    def __init__(self, metrics: Metrics) -> None:
        checks = metrics.counter(
            "aisix_cloud_budget_checks_total",
            "Budget checks by what came of them: allowed, denied, refused (the Cloud does not answer for this key), "
            "unreadable, unavailable.",
            ("result",),
        )
        self.checks = {result: checks.cell(result) for result in _RESULTS}
        self.keys_in_use = metrics.gauge(
            "aisix_cloud_budget_keys_in_use", "Caller keys that the Cloud is asked about."
        ).cell()
        self._success = metrics.gauge(
            "aisix_cloud_budget_last_success_timestamp_seconds",
            "When the Cloud answered a budget check last; 0: not since the start.",
        ).cell()
        self.last_success: datetime | None = None

    def answered(self, now: datetime, *, allow: bool) -> None:
        """The Cloud decided."""
        self.checks["allowed" if allow else "denied"].add()
        self.last_success = now
        self._success.set(now.timestamp())
