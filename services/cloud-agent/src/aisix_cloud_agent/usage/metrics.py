"""What is counted of the delivery of usage events, and what is told of those that are given up."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal, TypeAlias

from aisix_common.logs import Logger
from aisix_common.metrics import Metrics

Drop: TypeAlias = Literal["expired", "refused", "damaged"]
Ending: TypeAlias = Literal["delivered", "incomplete", "damaged", "failed", "refused"]

_ENDINGS: Final[tuple[Ending, ...]] = ("delivered", "incomplete", "damaged", "failed", "refused")
_DROPS: Final[tuple[Drop, ...]] = ("expired", "refused", "damaged")
WHY: Final[Mapping[Drop, str]] = {
    "expired": "older than managed.usage.max_age_secs, and the Cloud did not take them",
    "refused": "the Cloud refuses them by themselves, and takes others",
    "damaged": "they are no JSON objects, or their batch cannot be read",
}
_SHOWN: Final = 20
"""Request ids of one line."""
_QUIET_SECONDS: Final = 60.0


class OutboxMetrics:
    """Registers them; all names and labels are there from the start."""

    def __init__(self, metrics: Metrics) -> None:
        batches = metrics.counter(
            "aisix_cloud_usage_batches_total",
            "Batches that left the outbox: delivered, incomplete (events of them were dropped) or damaged; and calls "
            "for them that failed, or were refused for what they carried.",
            ("result",),
        )
        self.batches = {ending: batches.cell(ending) for ending in _ENDINGS}
        self.events = metrics.counter("aisix_cloud_usage_events_total", "Usage events that the Cloud took.").cell()
        drops = metrics.counter(
            "aisix_usage_event_drops_total",
            "Usage events that were given up: too old, refused by the Cloud by themselves, or no events (a whole "
            "batch of which nothing can be read counts as one).",
            ("reason",),
        )
        self.drops = {reason: drops.cell(reason) for reason in _DROPS}
        self.backlog = metrics.gauge("aisix_cloud_usage_backlog_batches", "Batches in the outbox.").cell()
        self.age = metrics.gauge(
            "aisix_cloud_usage_backlog_age_seconds", "Age of the oldest usage event in the outbox; 0: it is empty."
        ).cell()
        self._success = metrics.gauge(
            "aisix_cloud_usage_last_success_timestamp_seconds",
            "When the Cloud took usage events last; 0: not since the start.",
        ).cell()
        self.last_success: datetime | None = None

    def took(self, events: int, now: datetime) -> None:
        """The Cloud took that many."""
        self.events.add(events)
        self.last_success = now
        self._success.set(now.timestamp())


class Drops:
    """Counts the events that are given up, and tells of them: at most one line a minute for each reason, with the first
    of the request ids."""

    def __init__(self, metrics: OutboxMetrics, log: Logger, monotonic: Callable[[], float]) -> None:
        self._metrics = metrics
        self._log = log
        self._monotonic = monotonic
        self._untold: dict[Drop, int] = {}
        self._quiet: dict[Drop, float] = {}

    def add(self, reason: Drop, request_ids: Sequence[str], count: int) -> None:
        """`count` events are dropped; the names are those that are known."""
        self._metrics.drops[reason].add(count)
        untold = self._untold.get(reason, 0) + count
        now = self._monotonic()
        if now < self._quiet.get(reason, now):
            self._untold[reason] = untold
            return
        self._log.warning(
            "usage events were dropped", reason=WHY[reason], events=untold, request_ids=list(request_ids[:_SHOWN])
        )
        self._untold[reason] = 0
        self._quiet[reason] = now + _QUIET_SECONDS
