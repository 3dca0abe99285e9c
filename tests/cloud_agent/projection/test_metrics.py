"""What is told of the projection, and when."""

from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
from structlog.testing import CapturingLogger

from aisix_cloud_agent.projection.layout import Refused
from aisix_cloud_agent.projection.metrics import SHOWN, ProjectionMetrics
from aisix_common.metrics import Metrics

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class FixedClock:
    def now(self) -> datetime:
        return AT


class Told:
    """The metrics with their registry, their log and a clock that is moved."""

    def __init__(self) -> None:
        self.registry = Metrics()
        self.lines = CapturingLogger()
        self.time = 100.0
        log: Any = structlog.wrap_logger(self.lines, processors=[])
        self.metrics = ProjectionMetrics(self.registry, FixedClock(), log, lambda: self.time)

    def said(self) -> list[str]:
        """The levels of the lines since the last time."""
        levels = [call.method_name for call in self.lines.calls]
        self.lines.calls.clear()
        return levels

    def number(self, name: str, *labels: str) -> float:
        (family,) = [family for family in self.registry.collect() if family.name == name]
        (value,) = [sample.value for sample in family.samples if sample.labels == labels]
        return value


@pytest.fixture
def told() -> Told:
    return Told()


def test_trouble_is_told_when_it_begins_and_when_it_ends(told: Told) -> None:
    metrics = told.metrics
    assert not metrics.status().connected
    metrics.heard(0)
    metrics.heard(1)
    assert metrics.status().connected
    assert told.said() == []
    for _ in range(3):
        metrics.lost(0, "refused")
        metrics.lost(1, "refused")
    assert told.said() == ["warning"]
    assert (metrics.status().connected, metrics.status().trouble) == (False, "Cloud: refused")
    metrics.heard(0)
    assert told.said() == []
    metrics.heard(1)
    assert told.said() == ["info"]
    for reason in ("full", "full", "", ""):
        metrics.local_trouble(reason)
        assert metrics.status().trouble == (f"local etcd: {reason}" if reason else "")
    assert told.said() == ["warning", "info"]
    assert metrics.status().last_contact == AT
    metrics.lost(1, "denied")
    metrics.follows(1)
    assert metrics.status().trouble == "", "a root that is followed no more is no trouble"
    metrics.left()
    assert not metrics.status().connected


def test_alarms(told: Told) -> None:
    for text in ("7 rows", "8 rows", "", ""):
        told.metrics.alarm("shrink", text)
        assert told.metrics.status().alarms == ((("shrink", text),) if text else ())
        assert told.number("aisix_cloud_projection_held", "shrink") == bool(text)
        assert told.number("aisix_cloud_projection_held", "keyring") == 0
    assert told.said() == ["error", "info"]


def test_refused_rows_are_bounded(told: Told) -> None:
    told.metrics.refused_of_all(Refused(f"{n}", "bad") for n in range(3000))
    status = told.metrics.status()
    assert (status.refused_rows, len(status.refused), status.refused[0].key) == (3000, SHOWN, "2999")
    told.metrics.refused_among(["2999", "2998", "new"], [Refused("2998", "worse"), Refused("k" * 9999, "long")])
    status = told.metrics.status()
    assert (status.refused_rows, len(status.refused)) == (3000, SHOWN)
    assert [len(each.key) for each in status.refused[:3]] == [256, 4, 4]
    assert (status.refused[1].key, status.refused[1].reason) == ("2998", "worse")
    told.metrics.refused_of_all([])
    assert told.metrics.status().refused == ()


def test_the_lag_is_that_of_what_waits(told: Told) -> None:
    assert told.metrics.status().lag_seconds == 0
    told.metrics.waiting(99.0)
    told.time = 101.5
    assert told.number("aisix_cloud_projection_lag_seconds") == 2.5
    told.metrics.projected(7, 30, changed=False)
    assert told.metrics.status().last_change is None
    told.metrics.projected(8, 31, changed=True)
    told.metrics.waiting(None)
    status = told.metrics.status()
    assert (status.lag_seconds, status.cloud_revision, status.rows, status.last_change) == (0, 8, 31, AT)
    assert told.number("aisix_cloud_projected_revision") == 8
    assert told.number("aisix_cloud_projection_seconds") == 5.0  # the sum
    told.metrics.written(3, 2)
    told.metrics.transaction("failed")
    assert told.number("aisix_cloud_projection_writes_total", "delete") == 2
    assert told.number("aisix_cloud_projection_transactions_total", "failed") == 1
