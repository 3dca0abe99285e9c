"""What a batch of usage events holds, and how it becomes the body of a call. Pure.

An event is spliced as the proxy wrote it: the agent reads its age and its name, and changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from aisix_common.managed.outbox import MOST_EVENTS, unpacked

_SHOWN: Final = 64
"""Characters of a request id that are shown."""


@dataclass(frozen=True, slots=True)
class Event:
    """One usage event. `index` is its place in the row, which names it there for good."""

    index: int
    text: bytes
    request_id: str
    """For the log: ours, so no caller chose it. Empty where it has none."""
    occurred: datetime | None
    """None: it does not say, and never grows too old."""

    def older(self, than: timedelta, now: datetime) -> bool:
        """Whether it happened longer ago than that."""
        return self.occurred is not None and now - self.occurred > than


@dataclass(frozen=True, slots=True)
class Batch:
    """The events of a row, and how many lines of it are none."""

    events: tuple[Event, ...]
    broken: int

    @property
    def oldest(self) -> datetime | None:
        """When its first event happened, as far as one says; later ones may be a little older."""
        return next((event.occurred for event in self.events if event.occurred is not None), None)


def read_batch(value: bytes) -> Batch:
    """Raises DamagedBatch for a row that is no batch at all."""
    lines = unpacked(value)
    events = tuple(event for index, line in enumerate(lines) if (event := _event(index, line)) is not None)
    return Batch(events, len(lines) - len(events))


def calls(events: Sequence[Event]) -> list[Sequence[Event]]:
    """As many events a call as the Cloud takes, in order."""
    return [events[at : at + MOST_EVENTS] for at in range(0, len(events), MOST_EVENTS)]


def halves(events: Sequence[Event]) -> tuple[Sequence[Event], Sequence[Event]]:
    """Two parts of what was refused as a whole (two events at least), in order."""
    middle = len(events) // 2
    return events[:middle], events[middle:]


def body(events: Sequence[Event]) -> bytes:
    """The body of `POST /dp/telemetry`."""
    return b'{"events":[' + b",".join(event.text for event in events) + b"]}"


def _event(index: int, line: bytes) -> Event | None:
    """None: it is no JSON object."""
    try:
        document = msgspec.json.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    request_id = document.get("request_id")
    return Event(index, line, request_id[:_SHOWN] if isinstance(request_id, str) else "", _moment(document))


def _moment(document: dict[str, object]) -> datetime | None:
    text = document.get("occurred_at")
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
