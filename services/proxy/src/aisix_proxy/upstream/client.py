"""The upstream client: sends an `UpstreamRequest` over a pooled connection and hands back the answer.

It stands under the pipeline and on top of pool, connection and reply. It must not know what a provider's bytes mean,
never follows a redirect, never tries again beyond one stale pooled connection, and logs no request.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from aisix_common.settings import Upstream

from ..canonical.errors import UpstreamError, UpstreamProtocol, UpstreamTimeout
from ..canonical.http import UpstreamRequest, UpstreamResponse
from .coding import plain, unasked
from .connection import Connection
from .head import HeadWriter
from .pool import Pools
from .reply import Reply

RACE_SECONDS: Final = 0.1
"""How long after our request the end of a kept connection can have crossed it: a provider that closes it for being idle
too long. Later than that it has had the request, and may have acted on it."""


class UpstreamStream:
    """An answer whose head has come and whose body is still coming. To be closed by whoever got it."""

    __slots__ = ("_connection", "_left", "_loop", "_reply", "headers", "status")

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: Connection, reply: Reply) -> None:
        self._loop = loop
        self._connection = connection
        self._reply = reply
        self._left = False
        self.status = reply.status
        self.headers = reply.headers
        """Lower-case names; a repeated header is joined by `, `."""

    @property
    def complete(self) -> bool:
        """The whole answer has come (not necessarily been read); its connection is given back already."""
        return self._reply.complete

    async def read(self, wait: float | None) -> bytes | None:
        """All body bytes here now; b"" at the end; None when nothing came within `wait` seconds (None: no limit).

        Raises UpstreamAborted when the connection broke before the body was complete or the stream was closed,
        UpstreamProtocol when its framing cannot be read. Bytes that came before the break are returned first. A
        cancelled read closes the connection.
        """
        reply = self._reply
        due = None if wait is None else self._loop.time() + wait
        while True:
            if reply.pending:
                return reply.take()
            if reply.complete:
                return b""
            if reply.error is not None:
                raise reply.error
            if wait is not None and wait <= 0:
                return None
            self._connection.watch(due)
            try:
                progress = await reply.wait(self._loop)
            except BaseException:
                self.close()
                raise
            if not progress:
                return None

    def follow(self, follower: Callable[[], None] | None) -> None:
        """Instead of `read`, and cheaper by a task switch: `follower` is called whenever `take` gives bytes, and when
        the stream is `complete` or has an `error`; at once where that is so already. It must not raise.

        No deadline holds from now on. None ends it: bytes wait, up to the same bound as between two reads.
        """
        if follower is not None:
            self._connection.unwatch(self._reply)
        self._reply.follow(follower)

    def take(self) -> bytes:
        """All body bytes here now, b"" when there are none."""
        return self._reply.take()

    @property
    def error(self) -> UpstreamError | None:
        """What broke the stream; bytes that came before it may still be there to `take`."""
        return self._reply.error

    def leave(self, seconds: float) -> None:
        """Nobody reads on, but what is left must be little: `seconds` for it to come, that the connection can be used
        again; it is cut if it takes longer or if it is much. A later `close` changes nothing."""
        reply = self._reply
        if self._connection.reply is reply and reply.leave():
            self._left = True
            self._connection.watch(self._loop.time() + seconds)
        else:
            self.close()

    def close(self) -> None:
        """Give the stream up: an unfinished connection is cut at once. Harmless after the end, and twice."""
        if self._left:
            return
        self._connection.give_up(self._reply)
        self._reply.abandon()


class UpstreamClient:
    """One per worker process. Must be made and used on one running event loop."""

    def __init__(self, settings: Upstream) -> None:
        """`settings.upstream`. Raises ConfigurationError when a file of `upstream.tls` cannot be used."""
        self._loop = asyncio.get_running_loop()
        self._pools = Pools(settings, self._loop)
        self._heads = HeadWriter()

    @property
    def open_connections(self) -> int:
        """Established connections, idle and in use."""
        return len(self._pools.open)

    @property
    def idle(self) -> int:
        """Connections waiting in a pool."""
        return self._pools.idle

    @property
    def in_use(self) -> int:
        """Connections that serve an exchange, or are about to end."""
        return len(self._pools.open) - self._pools.idle

    @property
    def pools(self) -> int:
        """Origins (under one trust each) that have connections."""
        return len(self._pools)

    async def send(self, request: UpstreamRequest, *, timeout: float | None, max_body: int) -> UpstreamResponse:
        """Send and read the whole answer.

        `timeout`: seconds for everything from connecting to the last byte; None: no limit. `max_body`: bytes, packed
        and unpacked. Raises UpstreamTimeout, UpstreamUnreachable, UpstreamProtocol; Misconfigured when the request
        itself cannot be put on a wire. A cancelled send closes its connection at once.
        """
        _, reply = await self._perform(request, timeout, max_body)
        headers = reply.headers
        body = reply.take()
        coding = headers.get("content-encoding")
        if coding is not None and coding.lower() != "identity":
            body = plain(body, coding, max_body)
            del headers["content-encoding"]
            headers.pop("content-length", None)
        return UpstreamResponse(reply.status, headers, body)

    async def open(self, request: UpstreamRequest, *, timeout: float | None) -> UpstreamStream:
        """Send and wait for the answer's head. `timeout`: seconds for connecting and head. Raises as `send` does."""
        connection, reply = await self._perform(request, timeout, None)
        stream = UpstreamStream(self._loop, connection, reply)
        coding = reply.headers.get("content-encoding")
        if coding is not None and coding.lower() != "identity":
            stream.close()
            raise UpstreamProtocol(unasked(coding))
        return stream

    async def aclose(self) -> None:
        """Cut every connection; waits at most two seconds for the transports to end. Exchanges under way fail."""
        await self._pools.aclose()

    async def _perform(
        self, request: UpstreamRequest, timeout: float | None, max_body: int | None
    ) -> tuple[Connection, Reply]:
        """Send, and wait for the whole answer, or for its head where `max_body` is None (a stream)."""
        loop = self._loop
        pool = self._pools.find(request.origin, request.trust)
        head = self._heads.write(request, pool.authority)
        due = None if timeout is None else loop.time() + timeout
        connection = pool.take()
        while True:
            if connection is None:
                pool = self._pools.find(request.origin, request.trust)
                try:
                    connection = await pool.dial(None if due is None else due - loop.time())
                except TimeoutError:
                    raise _late(timeout) from None
            begun = loop.time()
            reply = connection.begin(max_body, head, request.body)
            connection.watch(due)
            try:
                progress = reply.error is not None or await reply.wait(loop)
            except BaseException:  # the caller is gone; so is the connection, before anybody else runs
                connection.give_up(reply)
                raise
            if not progress and not reply.complete:
                connection.give_up(reply)
                raise _late(timeout)
            error = reply.error
            if error is None or (max_body is None and reply.head_done):
                return connection, reply  # a stream that broke already: its bytes are read first
            if reply.started or not connection.reused or loop.time() - begun > RACE_SECONDS:
                raise error
            connection = None  # it was stale: the provider closed it before it saw a byte of ours


def _late(timeout: float | None) -> UpstreamTimeout:
    return UpstreamTimeout(round((timeout or 0) * 1000))
