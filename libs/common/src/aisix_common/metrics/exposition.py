"""Families as the text Prometheus scrapes, made by prometheus_client in a registry of our own."""

from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from .families import Family, Sample

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class _Families(Collector):
    """Hands families to prometheus_client."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            # prometheus_client puts the suffix of a counter's name back itself.
            name = family.name.removesuffix("_total") if family.kind == "counter" else family.name
            metric = Metric(name, family.help, family.kind)
            for sample in family.samples:
                _add(metric, family, sample)
            yield metric


def _add(metric: Metric, family: Family, sample: Sample) -> None:
    labels = dict(zip(family.labels, sample.labels, strict=True))
    if family.kind == "summary":
        metric.add_sample(f"{family.name}_count", labels, sample.count)
        metric.add_sample(f"{family.name}_sum", labels, sample.value)
    elif family.kind == "histogram":
        total = 0
        for edge, count in zip((*family.edges, float("inf")), sample.buckets, strict=True):
            total += count
            metric.add_sample(f"{family.name}_bucket", {**labels, "le": _edge(edge)}, total)
        metric.add_sample(f"{family.name}_count", labels, total)
        metric.add_sample(f"{family.name}_sum", labels, sample.value)
    else:
        metric.add_sample(family.name, labels, sample.value)


def _edge(value: float) -> str:
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return text


def render(families: Iterable[Family]) -> bytes:
    """The exposition text; HELP and TYPE also for families without a series. Slow: for a thread when there is much."""
    registry = CollectorRegistry()
    registry.register(_Families(families))
    return generate_latest(registry)
