"""The gauges follow the decisions, and show only keys that there are."""

from aisix_common.managed.budgets import Budget
from aisix_common.metrics import Metrics
from aisix_common.snapshot import Snapshot
from aisix_proxy.managed import budget_metrics
from aisix_proxy.managed.budget_metrics import BudgetMetrics

from tests.support.builders import api_key, snapshot_of


def series(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    families = {family.name: family for family in metrics.collect()}
    return {sample.labels: sample.value for sample in families[f"aisix_budget_{name}"].samples}


class World:
    def __init__(self, snapshot: Snapshot) -> None:
        self.metrics = Metrics()
        self.snapshot = snapshot
        self.budgets: dict[str, Budget | None] = {}
        BudgetMetrics(self.metrics).follow(lambda: self.budgets.items(), lambda: self.snapshot)


def test_they_follow() -> None:
    world = World(snapshot_of(api_key("a", "key-1", team_id="t", user_id="u"), api_key("b", "key-2")))
    assert series(world.metrics, "details_present") == {}
    one, two = ("key-1", "t", "u"), ("key-2", "unknown", "unknown")
    world.budgets = {"key-1": Budget(10.0, 2.5, 7.5, 60.0), "key-2": None, "gone": Budget(1.0)}
    assert series(world.metrics, "details_present") == {one: 1, two: 0}
    assert series(world.metrics, "limit_usd") == {one: 10}
    assert series(world.metrics, "spent_usd") == {one: 2.5}
    assert series(world.metrics, "remaining_usd") == {one: 7.5}
    assert series(world.metrics, "reset_seconds") == {one: 60}
    world.budgets = {"key-1": Budget(10.0), "key-2": Budget(0.0)}
    assert series(world.metrics, "limit_usd") == {one: 10, two: 0}
    assert series(world.metrics, "spent_usd") == {}
    world.snapshot = snapshot_of(api_key("b", "key-2", team_id="moved"))
    assert series(world.metrics, "limit_usd") == {("key-2", "moved", "unknown"): 0}
    world.budgets = {}
    assert series(world.metrics, "details_present") == series(world.metrics, "limit_usd") == {}


def test_they_are_bounded() -> None:
    world = World(snapshot_of(*(api_key(f"sk-{n}", f"key-{n}") for n in range(5000))))
    world.budgets = {f"key-{n}": Budget(1.0) for n in range(5000)}
    assert len(series(world.metrics, "limit_usd")) == budget_metrics.MOST_SERIES
