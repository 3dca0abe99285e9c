"""Carries a stream from the provider to the caller, one read at a time, with no task switch in between.

Called by the upstream connection when bytes came or the stream ended, and by one timer for all that time may bring:
heartbeats, and the deadlines of a silent provider and of the whole stream. The only waiting is `deliver`'s, for `turn`.
"""

import asyncio
import time
from typing import Final

import msgspec

from ..canonical.errors import UpstreamTimeout
from .exchange import Exchange, Streaming

HEARTBEAT: Final = b":\n\n"
NEVER: Final = float("inf")
EARLY: Final = 0.001
"""Seconds the timer may fire before its time: the loop's clock ticks in milliseconds."""


class Pace(msgspec.Struct, frozen=True):
    """Seconds; `NEVER` for what is not limited."""

    beat: float
    """Silence towards the caller until a heartbeat."""
    gap: float
    """Time without a chunk from the provider until it is given up; comments are none (data-plane 4.6)."""
    total: float
    """The whole stream."""


class Pump:
    """Await `turn`: True says that the reader is behind (let it catch up, `go_on`, and await the next one), False
    that the stream has ended well, but for its `last` bytes; it raises what broke the stream.

    Writes `first_byte`, unless there are none but the last.
    """

    __slots__ = (
        "_begun",
        "_downstream",
        "_exchange",
        "_heard",
        "_loop",
        "_pace",
        "_relay",
        "_stream",
        "_timer",
        "_wrote",
        "last",
        "turn",
    )

    def __init__(self, exchange: Exchange, answer: Streaming, pace: Pace) -> None:
        self._exchange = exchange
        self._downstream = exchange.downstream
        self._stream = answer.upstream
        self._relay = answer.relay
        self._pace = pace
        self._loop = asyncio.get_running_loop()
        self._begun = self._heard = self._wrote = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self.last = b""
        """What is still to be sent of a stream that ended well. Kept back: its usage events come before its end."""
        self.turn: asyncio.Future[bool] = self._loop.create_future()

    def start(self, first: bytes) -> None:
        """Write what was read already, and go on from there. Raises ConnectionError."""
        if self._relay.ended or self._relay.failed is not None:
            self._end(first)
            return
        if first:
            self._write(first)
        self._follow()
        if not self.turn.done():
            self._downstream.push()

    def go_on(self) -> None:
        """The reader has caught up: time that it took is neither the provider's silence nor ours."""
        self.turn = self._loop.create_future()
        if self._relay.ended or self._relay.failed is not None:
            self._end(b"")
            return
        self._heard = self._wrote = self._loop.time()
        self._follow()

    def stop(self) -> None:
        """Hear no more of the stream and of time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._stream.follow(None)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        self._stream.follow(self._progress)
        if self._timer is None and not self.turn.done():
            self._arm()

    def _progress(self) -> None:
        """Bytes came, or the stream has ended. While a turn is over they stay in the stream, which bounds them."""
        if self.turn.done():
            return
        try:
            stream, relay = self._stream, self._relay
            data = stream.take()
            if data:
                out = relay.feed(data)
                if out:
                    self._heard = self._loop.time()
                if relay.ended or relay.failed is not None:
                    self._end(out)
                    return
                if out:
                    self._write(out)
            if stream.complete and not self.turn.done():
                self._end(relay.finish())
            elif stream.error is not None and not self.turn.done():
                self._fail(stream.error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the one who waits is told
            self._fail(error)

    def _write(self, out: bytes) -> None:
        self._downstream.write(out)
        self._wrote = self._heard  # what is written was heard just now
        if not self._exchange.first_byte:
            self._exchange.first_byte = time.monotonic()
        if self._downstream.paused:
            self._rest()

    def _rest(self) -> None:
        if not self.turn.done():
            self.turn.set_result(True)

    def _end(self, out: bytes) -> None:
        """`out` is the last of it, but for what an error or a usage of our own has to add: that is `deliver`'s."""
        relay = self._relay
        if relay.failed is None and not relay.owes_usage:
            self.last = out
        elif out:
            self._write(out)
        if relay.failed is not None:
            self._fail(relay.failed)
        elif not self.turn.done():
            self.turn.set_result(False)

    def _fail(self, error: Exception) -> None:
        if not self.turn.done():
            self.turn.set_exception(error)

    def _arm(self) -> None:
        pace = self._pace
        due = min(self._heard + pace.gap, self._wrote + pace.beat, self._begun + pace.total)
        self._timer = None if due == NEVER else self._loop.call_at(due, self._tick)

    def _tick(self) -> None:
        """Armed once in a while, not once a read: mostly everything that was due has been put off."""
        self._timer = None
        if self.turn.done():
            return
        pace = self._pace
        now = self._loop.time()
        late = now + EARLY
        if late >= self._heard + pace.gap:
            self._fail(UpstreamTimeout(round(pace.gap * 1000)))
        elif late >= self._begun + pace.total:
            self._fail(UpstreamTimeout(round(pace.total * 1000)))
        else:
            if late >= self._wrote + pace.beat:
                try:
                    self._downstream.write(HEARTBEAT)
                except ConnectionError as error:
                    self._fail(error)
                    return
                self._wrote = now
                if self._downstream.paused:
                    self._rest()
            self._arm()
