"""The metrics of a process by name, and the bound on how many series each may have."""

from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from .cells import Cell, CounterCell, GaugeCell, HistogramCell, SummaryCell
from .families import Family, MergeRule

C = TypeVar("C", bound=Cell)

SERIES_LIMIT: Final = 5000
OTHER: Final = "other"
"""Every label value of the one series that takes what comes after the limit."""


class Metric(Generic[C]):
    """One named metric; callers look a cell up once per label combination and keep it."""

    def cell(self, *values: str) -> C:
        """The cell of these label values, in the order of the metric's labels; made on first use.

        Past the limit every new combination gets the cell of `other`, counted in
        `aisix_metric_series_overflow_total{metric}`. Raises ValueError for a wrong number of values.
        """
        raise NotImplementedError


Counter = Metric[CounterCell]
Gauge = Metric[GaugeCell]
Summary = Metric[SummaryCell]
Histogram = Metric[HistogramCell]


class Metrics:
    """All metrics of a process. Made once by `app.py`; names are registered at start so that a fresh scrape has them."""

    def counter(self, name: str, help: str, labels: Sequence[str] = ()) -> Metric[CounterCell]:
        """Register a counter; its name ends in `_total`. Raises ValueError for a name that is taken or malformed."""
        raise NotImplementedError

    def gauge(self, name: str, help: str, labels: Sequence[str] = (), *, merge: MergeRule = "sum") -> Metric[GaugeCell]:
        """Register a gauge; `merge` says how those of several worker processes become one."""
        raise NotImplementedError

    def summary(self, name: str, help: str, labels: Sequence[str] = ()) -> Metric[SummaryCell]:
        """Register a summary: `_count` and `_sum`."""
        raise NotImplementedError

    def histogram(
        self, name: str, help: str, labels: Sequence[str] = (), *, buckets: Sequence[float]
    ) -> Metric[HistogramCell]:
        """Register a histogram with these inclusive upper bounds, ascending."""
        raise NotImplementedError

    def before_collect(self, refresh: Callable[[], None]) -> None:
        """Have `refresh` called at the start of every `collect`, for gauges that are read rather than kept."""
        raise NotImplementedError

    def collect(self) -> list[Family]:
        """Everything counted so far, as values that may leave the process."""
        raise NotImplementedError
