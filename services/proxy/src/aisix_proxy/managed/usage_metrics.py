"""The metrics of usage events that wait for their delivery, and of those that were lost on the way."""

from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from aisix_common.metrics import Metrics

Loss: TypeAlias = Literal["journal_full", "journal_failed", "expired", "torn"]

LOSSES: Final[tuple[Loss, ...]] = ("journal_full", "journal_failed", "expired", "torn")
"""Over `managed.usage.max_bytes`; the disk did not take them, for longer than memory could; over `max_age_secs`; cut
short or damaged when the machine went down."""


class UsageMetrics:
    """Registers the metrics."""

    def __init__(self, metrics: Metrics) -> None:
        drops = metrics.counter(
            "aisix_usage_event_drops_total", "Usage events that will never reach the Cloud, by reason.", ("reason",)
        )
        self._drops = {loss: drops.cell(loss) for loss in LOSSES}
        self.recorded = metrics.counter(
            "aisix_usage_journal_events_total", "Usage events recorded in the journal."
        ).cell()
        self.shipped = metrics.counter(
            "aisix_usage_shipped_events_total", "Usage events passed on to the outbox, some of them more than once."
        ).cell()
        self._bytes = metrics.gauge(
            "aisix_usage_journal_bytes", "Bytes of the journals this process looks after."
        ).cell()
        self._oldest = metrics.gauge(
            "aisix_usage_journal_oldest_seconds",
            "Age of the oldest usage event that waits for the outbox; 0 when nothing is held up.",
            merge="max",
        ).cell()
        self._metrics = metrics

    def dropped(self, loss: Loss, events: int = 1) -> None:
        """`events` are lost."""
        self._drops[loss].add(events)

    def follow(self, journal_bytes: Callable[[], int], oldest_seconds: Callable[[], float]) -> None:
        """Read both from here, whenever somebody scrapes."""

        def refresh() -> None:
            self._bytes.set(journal_bytes())
            self._oldest.set(oldest_seconds())

        self._metrics.before_collect(refresh)
