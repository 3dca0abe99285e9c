"""What a process has counted, as plain values that travel between processes, and how several become one."""

from collections.abc import Sequence
from typing import Literal

import msgspec

Kind = Literal["counter", "gauge", "summary", "histogram"]
MergeRule = Literal["sum", "max", "min"]


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One series: the values of its family's labels, and its numbers."""

    labels: tuple[str, ...]
    value: float = 0.0
    """Counters and gauges: the number. Summaries and histograms: the sum."""
    count: int = 0
    """Summaries: how many were observed."""
    buckets: tuple[int, ...] = ()
    """Histograms: how many fell into each bucket, not cumulative; one more than the family's edges."""


class Family(msgspec.Struct, frozen=True):
    """One metric and all its series."""

    name: str
    help: str
    kind: Kind
    labels: tuple[str, ...] = ()
    samples: tuple[Sample, ...] = ()
    edges: tuple[float, ...] = ()
    """Histograms: upper bounds of the buckets."""
    merge: MergeRule = "sum"
    """How gauges of several processes become one."""


def merge(collections: Sequence[Sequence[Family]]) -> list[Family]:
    """The families of several processes as if one had counted it all; the order is that of the first collection.

    Counters, summaries and histograms add up, gauges follow their own rule.
    """
    raise NotImplementedError
