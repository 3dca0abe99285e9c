"""The metrics of a process by name, and the bound on how many series each may have."""

import math
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final, Generic, TypeVar

from .cells import Cell, CounterCell, GaugeCell, HistogramCell, SummaryCell
from .families import Family, Kind, MergeRule, Sample

C = TypeVar("C", bound=Cell)

SERIES_LIMIT: Final = 5000
OTHER: Final = "other"
"""Every label value of the one series that takes what comes after the limit."""

_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")


class Metric(Generic[C]):
    """One named metric; callers look a cell up once per label combination and keep it."""

    def __init__(self, family: Family, make: Callable[[], C], overflow: "Metric[CounterCell] | None") -> None:
        """`family` says what it is; its samples are ignored. Made by `Metrics` only."""
        self.name: Final = family.name
        self._family = family
        self._make = make
        self._overflow = overflow
        self._cells: dict[tuple[str, ...], C] = {}
        self._limit = SERIES_LIMIT
        if not family.labels:
            self.cell()

    def cell(self, *values: str) -> C:
        """The cell of these label values, in the order of the metric's labels; made on first use.

        Past the limit every new combination gets the cell of `other`, counted in
        `aisix_metric_series_overflow_total{metric}`. Raises ValueError for a wrong number of values.
        """
        found = self._cells.get(values)
        return found if found is not None else self._add(values)

    def _add(self, values: tuple[str, ...]) -> C:
        if len(values) != len(self._family.labels):
            raise ValueError(f"{self.name} has {len(self._family.labels)} labels, not {len(values)}")
        # One lone surrogate in a configured name would make the whole page unencodable.
        values = tuple(value.encode(errors="replace").decode() for value in values)
        if (found := self._cells.get(values)) is not None:
            return found
        if len(self._cells) >= self._limit:
            if self._overflow is not None:
                self._overflow.cell(self.name).add()
            values = (OTHER,) * len(values)
            if (found := self._cells.get(values)) is not None:
                return found
        cell = self._cells[values] = self._make()
        return cell

    def forget(self, *values: str) -> None:
        """Drop a series whose subject is gone for good, such as a deleted deployment's gauge; unknown ones are ignored.

        For gauges: a counter that comes back would seem to have been reset.
        """
        self._cells.pop(values, None)

    def collect(self) -> Family:
        """The metric and all its series as values."""
        samples = tuple(_sample(labels, cell) for labels, cell in self._cells.items())
        family = self._family
        return Family(family.name, family.help, family.kind, family.labels, samples, family.edges, family.merge)


def _sample(labels: tuple[str, ...], cell: Cell) -> Sample:
    if isinstance(cell, HistogramCell):
        return Sample(labels, cell.sum, 0, tuple(cell.buckets))
    if isinstance(cell, SummaryCell):
        return Sample(labels, cell.sum, cell.count)
    return Sample(labels, cell.value)


Counter = Metric[CounterCell]
Gauge = Metric[GaugeCell]
Summary = Metric[SummaryCell]
Histogram = Metric[HistogramCell]


class Metrics:
    """All metrics of a process, made once by `app.py`; all names are registered at start."""

    def __init__(self) -> None:
        self._metrics: dict[str, Metric[Any]] = {}
        self._refreshers: list[Callable[[], None]] = []
        self._overflow = self.counter(
            "aisix_metric_series_overflow_total", "Label combinations counted as `other`, by metric.", ("metric",)
        )

    def counter(self, name: str, help: str, labels: Sequence[str] = ()) -> Counter:
        """Register a counter; its name ends in `_total`. Raises ValueError for a name that is taken or malformed."""
        if not name.endswith("_total"):
            raise ValueError(f"the name of a counter ends in _total: {name}")
        return self._register(_family(name, help, "counter", labels), CounterCell)

    def gauge(self, name: str, help: str, labels: Sequence[str] = (), *, merge: MergeRule = "sum") -> Gauge:
        """Register a gauge; `merge` says how those of several worker processes become one."""
        return self._register(_family(name, help, "gauge", labels, merge=merge), GaugeCell)

    def summary(self, name: str, help: str, labels: Sequence[str] = ()) -> Summary:
        """Register a summary: `_count` and `_sum`."""
        return self._register(_family(name, help, "summary", labels), SummaryCell)

    def histogram(self, name: str, help: str, labels: Sequence[str] = (), *, buckets: Sequence[float]) -> Histogram:
        """Register a histogram with these inclusive upper bounds, ascending."""
        edges = tuple(map(float, buckets))
        if not edges or not all(map(math.isfinite, edges)) or any(low >= high for low, high in pairwise(edges)):
            raise ValueError(f"the buckets of {name} are finite and ascend")
        return self._register(_family(name, help, "histogram", labels, edges=edges), lambda: HistogramCell(edges))

    def before_collect(self, refresh: Callable[[], None]) -> None:
        """Have `refresh` called at the start of every `collect`, for numbers that are read rather than kept."""
        self._refreshers.append(refresh)

    def collect(self) -> list[Family]:
        """Everything counted so far, as values that may leave the process."""
        for refresh in self._refreshers:
            refresh()
        return [metric.collect() for metric in self._metrics.values()]

    def _register(self, family: Family, make: Callable[[], C]) -> Metric[C]:
        if family.name in self._metrics:
            raise ValueError(f"two metrics are called {family.name}")
        overflow = getattr(self, "_overflow", None)  # the overflow counter itself is the first to be registered
        metric = Metric(family, make, overflow)
        self._metrics[family.name] = metric
        return metric


def _family(
    name: str,
    help: str,
    kind: Kind,
    labels: Sequence[str],
    *,
    edges: tuple[float, ...] = (),
    merge: MergeRule = "sum",
) -> Family:
    if not all(map(_NAME.match, (name, *labels))) or len(set(labels)) != len(labels):
        raise ValueError(f"{name} or one of its labels is no name for a metric: {', '.join(labels)}")
    return Family(name, help, kind, tuple(labels), edges=edges, merge=merge)
