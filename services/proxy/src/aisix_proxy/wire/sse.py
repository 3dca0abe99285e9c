"""Server-sent events: bytes to events and back, after the rules of the WHATWG's HTML standard (9.2.6).

Stands at the bottom of the proxy: adapters read providers' streams with it, dialects write streams to callers, and the
relay uses `complete` to pass whole frames through unread. Must not know what the data means.
"""

from typing import Final

import msgspec

from ..canonical.errors import UpstreamProtocol

MAX_EVENT: Final = 8 * 1024 * 1024
"""Bytes of one event: room for a base64 image, a wall against a line that never ends."""

BOM: Final = b"\xef\xbb\xbf"


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

    __slots__ = ("_after_cr", "_at_start", "_data", "_event", "_held", "_id", "_max_event", "_partial", "_retry")

    def __init__(self, *, max_event: int = MAX_EVENT) -> None:
        """`max_event` bounds the bytes kept for one event, its unfinished line included."""
        self._max_event = max_event
        self._partial = bytearray()
        """The line that has not ended yet."""
        self._after_cr = False
        """The last byte was a CR that ended a line: an LF now belongs to it."""
        self._at_start = True
        self._held = 0
        """Bytes of the current event's complete lines."""
        self._data: list[bytes] = []
        self._event = ""
        self._id: str | None = None
        self._retry: int | None = None

    def feed(self, data: bytes) -> list[SseEvent]:
        """The events that `data` completed. Raises UpstreamProtocol when an event is over `max_event` bytes."""
        if self._after_cr and data:
            self._after_cr = False
            if data[0] == 10:
                data = data[1:]
        if not data:
            return []
        events: list[SseEvent] = []
        if b"\n" not in data and b"\r" not in data:
            self._keep(data)
            return events
        if self._partial:
            data = bytes(self._partial) + data
            self._partial.clear()
        lines = data.splitlines()  # at CR, LF and CRLF: for bytes that is all it splits at
        last = data[-1]
        rest = b""
        if last == 13:
            self._after_cr = True
        elif last != 10:
            rest = lines.pop()
        for line in lines:
            self._line(line, events)
        self._keep(rest)
        return events

    def finish(self) -> list[SseEvent]:
        """The stream ended: its last event, should the blank line be missing (the standard drops it, providers forget).

        Whether that event is whole is for the reader of its data to find out.
        """
        events: list[SseEvent] = []
        if self._partial:
            self._line(bytes(self._partial), events)
            self._partial.clear()
        self._dispatch(events)
        return events

    def _keep(self, part: bytes) -> None:
        if self._held + len(self._partial) + len(part) > self._max_event:
            raise self._too_large()
        self._partial += part

    def _line(self, line: bytes, events: list[SseEvent]) -> None:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(BOM)
        if not line:
            self._dispatch(events)
            return
        self._held += len(line) + 1
        if self._held > self._max_event:
            raise self._too_large()
        if line.startswith(b"data: "):  # nearly every line there is
            self._data.append(line[6:])
            return
        name, _, value = line.partition(b":")
        if value[:1] == b" ":
            value = value[1:]
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name == b"id":
            if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value) < 16:
            self._retry = int(value)
        # anything else is a comment (empty name) or a field nobody knows

    def _dispatch(self, events: list[SseEvent]) -> None:
        if self._data:
            data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
            events.append(SseEvent(data, self._event, self._id, self._retry))
            self._data = []
        self._event = ""
        self._retry = None
        self._held = 0

    def _too_large(self) -> UpstreamProtocol:
        return UpstreamProtocol(f"an event of its stream is larger than {self._max_event} bytes")


def complete(buffer: bytes | bytearray) -> int:
    """The position after the last frame terminator (blank line) in `buffer`; 0: no frame is complete yet.

    A line end followed by an empty line, whether they are LF, CRLF or CR.
    """
    end = _after(buffer, b"\n\n")
    if end == len(buffer) or b"\r" not in buffer:
        return end
    # Where a CR CR at the end turns out to be CR CRLF, the LF opens the next frame as one more empty line: harmless.
    return max(end, _after(buffer, b"\n\r\n"), _after(buffer, b"\r\r\n"), _after(buffer, b"\r\r"))


def _after(buffer: bytes | bytearray, terminator: bytes) -> int:
    at = buffer.rfind(terminator)
    return 0 if at < 0 else at + len(terminator)


def encode(data: bytes, *, event: str = "", id: str = "") -> bytes:
    """One event as a frame; `data` may have several lines (any line end). Empty `event` and `id` are left out.

    Raises ValueError when `event` or `id` holds a line end or NUL: they would become fields of their own.
    """
    if any(mark in text for text in (event, id) for mark in "\r\n\0"):
        raise ValueError("the event and id of a server-sent event are single lines")
    head = (f"id: {id}\n" if id else "") + (f"event: {event}\n" if event else "")
    if b"\n" not in data and b"\r" not in data:
        return head.encode() + b"data: " + data + b"\n\n"
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return head.encode() + b"".join(b"data: " + line + b"\n" for line in lines) + b"\n"
