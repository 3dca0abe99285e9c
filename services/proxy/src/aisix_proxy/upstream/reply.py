"""One answer on its way in: the parser's callbacks, the bounds, and the bytes nobody has read yet.

Made for one exchange and never used again, parser included, so that a pooled connection cannot carry anything of one
exchange into the next. Knows neither sockets nor the pool: what it needs of its connection is `Line`.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from ..canonical.errors import UpstreamAborted, UpstreamError, UpstreamProtocol, UpstreamUnreachable

MAX_HEAD: Final = 64 * 1024
"""Bytes of a response head (interim ones included); the same bound holds for trailers and chunk extensions."""
MAX_HEADERS: Final = 256
HIGH_WATER: Final = 64 * 1024
"""Unread bytes of a stream above which the socket is no longer read."""
LEFTOVER: Final = 16 * 1024
"""Bytes of a body that are still read when nobody wants them."""

NO_BODY: Final = frozenset({204, 304})


class Line(Protocol):
    """What a reply may do to the connection it comes from."""

    def finish(self, reusable: bool) -> None:
        """The answer is complete; the connection may go back to the pool or not."""
        ...

    def drop(self) -> None:
        """Cut the connection now."""
        ...

    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Reply:
    """State of one answer. `max_body` None makes it a stream: bytes are handed out as they come, with back-pressure."""

    __slots__ = (
        "_dry",
        "_extra",
        "_first",
        "_follower",
        "_head_bytes",
        "_header_count",
        "_interim",
        "_keep_alive",
        "_left",
        "_line",
        "_max_body",
        "_more",
        "_parser",
        "_paused",
        "_until_close",
        "_waiter",
        "complete",
        "error",
        "head_done",
        "headers",
        "peer",
        "received",
        "started",
        "status",
    )

    def __init__(self, line: Line, peer: str, max_body: int | None) -> None:
        self._line = line
        self._max_body = max_body
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._waiter: asyncio.Future[bool] | None = None
        self._follower: Callable[[], None] | None = None
        self._left = False
        self._first = b""
        self._more: bytearray | None = None
        self._head_bytes = 0
        self._header_count = 0
        self._dry = 0
        self._interim = False
        self._keep_alive = False
        self._until_close = False
        self._extra = False
        self._paused = False
        self.peer = peer
        self.status = 0
        self.headers: dict[str, str] = {}
        self.received = 0
        """Body bytes so far."""
        self.started = False
        """Any byte of an answer came: the provider may have acted, and nobody may quietly ask again."""
        self.head_done = False
        self.complete = False
        self.error: UpstreamError | None = None

    # -- for the one who waits ----------------------------------------------------------------------------------------

    def wait(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[bool]:
        """A future for the next progress: True when there is some, False when the connection's deadline passed."""
        self._waiter = waiter = loop.create_future()
        return waiter

    def follow(self, follower: Callable[[], None] | None) -> None:
        """Call `follower` when there is progress, from within the read that brought it; None: no longer.

        It is called now where there is some already. It must not raise.
        """
        self._follower = follower
        if follower is not None and (self._first or self.complete or self.error is not None):
            follower()

    def leave(self) -> bool:
        """Nobody reads on, but a rest of a few bytes may still come. False when that would serve no other exchange."""
        if not self._keep_alive or self._until_close or self.error is not None:
            return False
        self._follower = None
        self._left = True
        self.take()
        self._max_body = self.received + LEFTOVER  # no longer a stream: nobody is woken, and the rest is bounded
        return True

    @property
    def pending(self) -> bool:
        """Unread body bytes are here."""
        return bool(self._first)

    def take(self) -> bytes:
        """All unread body bytes, and reading goes on."""
        first, more = self._first, self._more
        self._first = b""
        if more is not None:
            self._more = None
            first += more
        if self._paused:
            self._paused = False
            self._line.resume()
        return first

    # -- for the connection -------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Bytes came."""
        parser = self._parser
        if parser is None:
            return
        self.started = True
        received = self.received
        try:
            parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as problem:  # the second: a 101, refused below already
            self._extra = True
            self._fail(f"broken HTTP framing ({problem})")
        if self.complete:
            self._settle()
        elif self.error is not None:
            self._break()
        elif self.received == received:
            self._heard_no_body(len(data))
        elif self._max_body is None:
            self._dry = 0
            follower = self._follower
            if follower is not None:
                follower()
            else:
                self._wake(True)
            if self._first and not self._paused and self._unread() > HIGH_WATER:
                self._paused = True
                self._line.pause()
        else:
            self._dry = 0

    def broken(self, problem: str | None) -> None:
        """The connection is gone; `problem` says how, None is an orderly end."""
        if self._parser is None:
            return
        if problem is None and self._until_close:
            self.complete = True
        else:
            how = problem or "the connection was closed"
            if not self.started:
                self.error = UpstreamUnreachable(f"receive from {self.peer}: {how} before any answer")
            elif not self.head_done:
                self.error = UpstreamUnreachable(f"receive from {self.peer}: {how} in the middle of the answer's head")
            elif self._max_body is None:
                self.error = UpstreamAborted()
            else:
                self.error = UpstreamUnreachable(f"receive from {self.peer}: {how} in the middle of the answer's body")
        self._parser = None
        self._wake(True)

    def expire(self) -> None:
        """The deadline of the current wait passed."""
        if self._left:
            self._break()
        else:
            self._wake(False)

    def abandon(self) -> None:
        """Nobody will read this any more: nothing is kept, and a read that comes nevertheless says so."""
        self._parser = None
        self._follower = None
        self._first = b""
        self._more = None
        if not self.complete and self.error is None:
            self.error = UpstreamAborted()

    # -- for the parser -----------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.complete:
            self._extra = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.complete:
            return
        self._head_bytes += len(name) + len(value)
        self._header_count += 1
        if self._head_bytes > MAX_HEAD or self._header_count > MAX_HEADERS:
            self._fail("its head or trailer is larger than the gateway accepts")
        elif not self.head_done:
            key = name.decode("latin-1").lower()
            text = value.decode("utf-8", "surrogateescape").strip(" \t")
            headers = self.headers
            headers[key] = f"{headers[key]}, {text}" if key in headers else text

    def on_headers_complete(self) -> None:
        parser = self._parser
        if parser is None or self.error is not None or self.complete:
            return
        status = parser.get_status_code()
        if status < 200:
            self._interim = True
            if status == 101:
                self._fail("it switched protocols unasked")
            return
        self.status = status
        version = parser.get_http_version()
        if version not in {"1.1", "1.0"}:
            self._fail(f"it speaks HTTP/{version}")
            return
        self._keep_alive = parser.should_keep_alive()
        self._frame()
        self.head_done = self.error is None

    def on_body(self, data: bytes) -> None:
        if self.error is not None or self.complete:
            return
        self.received += len(data)
        if self._max_body is not None and self.received > self._max_body:
            self._too_large()
        elif not self._first:
            self._first = data
        elif self._more is None:
            self._more = bytearray(data)
        else:
            self._more += data

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
            self.headers = {}
        elif self.error is None:
            self.complete = True

    # -- inside -------------------------------------------------------------------------------------------------------

    def _frame(self) -> None:
        """Decide how the body ends, from the complete head."""
        headers = self.headers
        coding = headers.get("transfer-encoding")
        length = headers.get("content-length")
        if coding is not None:
            if coding.lower() != "chunked":
                self._fail("it uses a transfer coding that was not asked for")
        elif length is None:
            self._until_close = self.status not in NO_BODY
        elif self._max_body is not None and int(length) > self._max_body:
            self._too_large()

    def _unread(self) -> int:
        return len(self._first) + (0 if self._more is None else len(self._more))

    def _heard_no_body(self, size: int) -> None:
        """A head, or what has a bound together: endless heads, chunk extensions, trailers."""
        self._dry += size
        if self._dry > MAX_HEAD:
            self._fail("its head or trailer is larger than the gateway accepts")
            self._break()
        elif self._max_body is None and self.head_done:
            self._wake(True)

    def _too_large(self) -> None:
        self._fail(f"its body is larger than {self._max_body} bytes")

    def _fail(self, rule: str) -> None:
        if self.error is None and not self.complete:
            self.error = UpstreamProtocol(f"{self.peer}: {rule}")

    def _settle(self) -> None:
        self._parser = None
        if self._paused:
            self._paused = False
            self._line.resume()
        self._line.finish(self._keep_alive and not self._extra)
        self._wake(True)

    def _break(self) -> None:
        self._parser = None
        self._line.drop()
        self._wake(True)

    def _wake(self, progress: bool) -> None:
        follower = self._follower
        if follower is not None:
            if progress:
                follower()
            return
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(progress)
