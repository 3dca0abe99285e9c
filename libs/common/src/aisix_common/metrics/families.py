"""What a process has counted, as plain values that travel between processes, and how several become one."""

from collections.abc import Sequence
from operator import add
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
    """The families of several processes as if one had counted it all, in the order they are first seen.

    Counters, summaries and histograms add up, gauges follow their own rule. A family that disagrees with the first of
    its name in kind, labels or edges (two versions side by side) is left out: a wrong number is worse than none.
    """
    shapes: dict[str, Family] = {}
    series: dict[str, dict[tuple[str, ...], Sample]] = {}
    for family in (family for collection in collections for family in collection):
        shape = shapes.setdefault(family.name, family)
        if (family.kind, family.labels, family.edges) != (shape.kind, shape.labels, shape.edges):
            continue
        merged = series.setdefault(family.name, {})
        for sample in family.samples:
            known = merged.get(sample.labels)
            merged[sample.labels] = sample if known is None else _merged(shape, known, sample)
    return [msgspec.structs.replace(shape, samples=tuple(series[name].values())) for name, shape in shapes.items()]


def _merged(family: Family, one: Sample, other: Sample) -> Sample:
    if family.kind == "gauge" and family.merge != "sum":
        return max(one, other, key=_value) if family.merge == "max" else min(one, other, key=_value)
    buckets = tuple(map(add, one.buckets, other.buckets))
    return Sample(one.labels, one.value + other.value, one.count + other.count, buckets)


def _value(sample: Sample) -> float:
    return sample.value
