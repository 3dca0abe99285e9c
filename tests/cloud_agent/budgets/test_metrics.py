"""What is counted of budget checks."""

import datetime as dt

from aisix_cloud_agent.budgets.metrics import BudgetMetrics
from aisix_common.metrics import Metrics


def test_all_results_are_there_from_the_start_and_answers_are_counted_by_what_they_say() -> None:
    registry = Metrics()
    metrics = BudgetMetrics(registry)
    now = dt.datetime(2026, 6, 15, tzinfo=dt.UTC)
    metrics.answered(now, allow=True)
    metrics.answered(now, allow=False)
    metrics.answered(now, allow=False)
    samples = {
        (family.name, *sample.labels): sample.value for family in registry.collect() for sample in family.samples
    }
    results = ("allowed", "denied", "refused", "unreadable", "unavailable")
    assert [samples["aisix_cloud_budget_checks_total", result] for result in results] == [1, 2, 0, 0, 0]
    assert samples[("aisix_cloud_budget_last_success_timestamp_seconds",)] == now.timestamp()
    assert metrics.last_success == now
