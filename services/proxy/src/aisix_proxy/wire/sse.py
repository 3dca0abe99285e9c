"""Server-sent events: bytes to events and back, after the rules of the WHATWG's HTML standard (9.2.6).

Stands at the bottom of the proxy: adapters read providers' streams with it, dialects write callers' streams with it, and
the relay uses `complete` to pass whole frames through unread. Must not know what the data means.
"""

from typing import Final

import msgspec

MAX_EVENT: Final = 8 * 1024 * 1024
"""Bytes of one event: room for a base64 image, a wall against a stream that never ends its line."""


class SseEvent(msgspec.Struct, frozen=True):
    """One dispatched event."""

    data: bytes
    """All `data` lines joined by LF, as they came (not checked to be UTF-8: whoever reads them decides)."""
    event: str = ""
    """The `event` field; empty means the standard's default, `message`."""
    id: str | None = None
    """The last event id so far; None: never set."""
    retry: int | None = None
    """Milliseconds of a `retry` field inside this event."""


class SseDecoder:
    """An incremental reader. Any cut of the same bytes gives the same events."""

    def __init__(self, *, max_event: int = MAX_EVENT) -> None:
        """`max_event` bounds the bytes kept for one event."""
        raise NotImplementedError

    def feed(self, data: bytes) -> list[SseEvent]:
        """The events that `data` completed. Raises UpstreamProtocol when an event is over `max_event` bytes."""
        raise NotImplementedError

    def finish(self) -> list[SseEvent]:
        """The stream ended: the last event, if its blank line is missing (the standard drops it; providers forget it)."""
        raise NotImplementedError


def complete(buffer: bytes) -> int:
    """The position after the last frame terminator (blank line) in `buffer`; 0: no frame is complete yet."""
    raise NotImplementedError


def encode(data: bytes, *, event: str = "", id: str = "") -> bytes:
    """One event as a frame; `data` may have several lines. Empty `event` and `id` are left out."""
    raise NotImplementedError
