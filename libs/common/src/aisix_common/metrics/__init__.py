"""Prometheus metrics as plain numbers: counted on the hot path, made into text only when somebody scrapes.

`cells` what is counted into, `registry` the `Metrics` of a process, `families` the serialisable snapshot between
processes and its merge, `exposition` the text, `process` what the kernel says of us. No locks (one loop owns the
cells), no globals; prometheus_client's own registry and process-wide state are not used.
"""

from .cells import CounterCell, GaugeCell, HistogramCell, SummaryCell
from .exposition import CONTENT_TYPE, render
from .families import Family, Sample, merge
from .process import ProcessMetrics
from .registry import Counter, Gauge, Histogram, Metric, Metrics, Summary

__all__ = [
    "CONTENT_TYPE",
    "Counter",
    "CounterCell",
    "Family",
    "Gauge",
    "GaugeCell",
    "Histogram",
    "HistogramCell",
    "Metric",
    "Metrics",
    "ProcessMetrics",
    "Sample",
    "Summary",
    "SummaryCell",
    "merge",
    "render",
]
