"""The `aisix_secret_*` metrics: what is known of references, and how their managers do."""

from collections.abc import Callable, Mapping
from typing import Final

from aisix_common.metrics import Metrics

_SECONDS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class SecretMetrics:
    """Registers the metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._references = metrics.gauge(
            "aisix_secret_references", "Secret references by what is known of them.", ("state",), merge="max"
        )
        self._fetches = metrics.counter(
            "aisix_secret_fetches_total", "Secrets fetched from their managers.", ("manager", "outcome")
        )
        self._seconds = metrics.histogram(
            "aisix_secret_fetch_seconds", "How long managers took to answer.", ("manager",), buckets=_SECONDS
        )
        self._metrics = metrics

    def follow(self, counts: Callable[[], Mapping[str, int]]) -> None:
        """Read the numbers of references by state from here, whenever somebody scrapes."""

        def refresh() -> None:
            for state, count in counts().items():
                self._references.cell(state).set(count)

        self._metrics.before_collect(refresh)

    def fetched(self, manager: str, outcome: str, seconds: float) -> None:
        """A fetch has ended."""
        self._fetches.cell(manager, outcome).add()
        self._seconds.cell(manager).observe(seconds)
