"""What is counted into: one object per label combination, kept by the caller. Plain numbers, no locks."""

from bisect import bisect_left
from collections.abc import Sequence


class CounterCell:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def add(self, amount: float = 1) -> None:
        """Grow by `amount`, which is not negative."""
        self.value += amount


class GaugeCell:
    """A number that goes up and down."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def set(self, value: float) -> None:
        """The number is `value` now."""
        self.value = value

    def add(self, amount: float = 1) -> None:
        """Change by `amount`, which may be negative."""
        self.value += amount


class SummaryCell:
    """How many values were observed, and their sum; without quantiles, which cannot be merged."""

    __slots__ = ("count", "sum")

    def __init__(self) -> None:
        self.count = 0
        self.sum: float = 0.0

    def observe(self, value: float) -> None:
        """Note one value, in the metric's base unit (seconds)."""
        self.count += 1
        self.sum += value

    def add(self, count: int, sum: float) -> None:
        """Note `count` values that make up `sum`."""
        self.count += count
        self.sum += sum


class HistogramCell:
    """How many values fell into each bucket, and their sum. `edges` are inclusive upper bounds, ascending."""

    __slots__ = ("buckets", "edges", "sum")

    def __init__(self, edges: Sequence[float]) -> None:
        self.edges = edges
        self.buckets = [0] * (len(edges) + 1)
        """Not cumulative; the last one is above every edge."""
        self.sum: float = 0.0

    def observe(self, value: float) -> None:
        """Note one value, in the metric's base unit (seconds)."""
        self.buckets[bisect_left(self.edges, value)] += 1
        self.sum += value


Cell = CounterCell | GaugeCell | SummaryCell | HistogramCell
