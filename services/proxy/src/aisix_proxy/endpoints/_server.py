"""aiohttp's low-level server, with the answers it would give by itself made ours (decision 0003).

Requests that cannot even be parsed get the gateway's envelope and headers. What they held is never echoed or logged:
it may be a key.

A connection has one timer, set when it goes idle and moved only when a head comes in pieces; requests do not touch it.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import _PAYLOAD_ACCESS_ERROR, ERROR, RequestHandler, RequestPayloadError, _ErrInfo

from ..canonical.errors import BadRequest, CallerError, GatewayError, InternalError
from ..pipeline.deliver import STALL_SECONDS
from ._http import DRAIN_BYTES, Front, HttpRequest

READ_BUFFER: Final = 256 * 1024
LINGER_SECONDS: Final = 5.0
"""How long the rest of a body is still read when the answer went out before its end."""
LINGER_BYTES: Final = DRAIN_BYTES
HEAD_SECONDS: Final = 30.0
"""How long the head of a request may take from its first byte on, and a new connection until its first byte."""
HALF_CLOSE_SECONDS: Final = 0.1
"""A caller that ends its side this soon after its last byte still waits for the answer; one that does so later has
left, and the provider must not work for nobody. TCP tells the two apart only when something is written to them."""
PIPELINED_BYTES: Final = 256 * 1024
"""How much is read on behind a request that is being answered."""
UNBOUNDED_IDLE: Final = 3600.0
"""Seconds an idle connection is kept when no limit is configured: a dead peer must not hold a socket for ever."""

_CODINGS: Final = "chunked is the only Transfer-Encoding understood here"

Show = Callable[[HttpRequest, GatewayError], None]


class HeadTooLarge(CallerError):
    """431: the request line or a header is longer than 8,190 bytes."""

    status = 431


class UnknownCoding(CallerError):
    """501: a Transfer-Encoding other than chunked."""

    status = 501


class _Protocol(RequestHandler):
    """aiohttp's connection: its parsing, its bounds and its timers, with a loop of our own over the requests."""

    __slots__ = ("_backlog", "_front", "_half_closed", "_handler", "_in_head", "_show")

    def __init__(self, server: "EdgeServer", **options: Any) -> None:
        super().__init__(server, **options)
        self._handler = server.handler
        self._front = server.front
        self._show = server.show
        self._backlog = 0
        """Bytes that came behind a request that is being answered."""
        self._half_closed = False
        self._in_head = False
        """The timer watches over a head that has begun and not ended."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As aiohttp's, but the first request has to come sooner than a next one."""
        idle = self._keepalive_timeout
        self._keepalive_timeout = min(idle, HEAD_SECONDS)
        super().connection_made(transport)
        self._keepalive_timeout = idle

    def data_received(self, data: bytes) -> None:
        """As aiohttp's, but a head has its deadline, and a body whose framing breaks wakes whoever waits for it."""
        super().data_received(data)
        waiter, messages = self._waiter, self._messages
        if waiter is not None and not waiter.done():
            if data and not self._in_head:
                self._in_head = True
                self._watch(self._loop.time() + HEAD_SECONDS)
        elif messages and (waiter is None or len(messages) > 1):
            self._queued(len(data))

    def _queued(self, size: int) -> None:
        """Requests wait behind another one; what they may occupy is bounded."""
        self._backlog += size
        if self._backlog > PIPELINED_BYTES and not self._buffer_paused:
            self._pause_reading_for_buffer()
        if isinstance(self._messages[-1][0], _ErrInfo):
            broken = RequestPayloadError("the framing of the body is broken")
            if self._current_request is not None:
                self._current_request._cancel(broken)
            for _, payload in self._messages:
                if not payload.is_eof():
                    payload.set_exception(broken)

    def _watch(self, due: float) -> None:
        """Close the connection at `due`, unless it has something to answer then."""
        self._next_keepalive_close_time = due
        if self._keepalive_handle is not None:
            self._keepalive_handle.cancel()
        self._keepalive_handle = self._loop.call_at(due, self._process_keepalive)

    def eof_received(self) -> bool | None:  # type: ignore[override]  # asyncio's: True keeps the connection
        """The caller sends no more. Where it may still be waiting for answers to whole requests, it gets them."""
        waiter = self._waiter
        if self._force_close or self.ssl_context is not None or (waiter is not None and not waiter.done()):
            return None
        reading: Any = self._current_request
        whole = (reading is None or reading.arrived) and all(payload.is_eof() for _, payload in self._messages)
        if not whole or _since_data(self.transport) > HALF_CLOSE_SECONDS:
            return None
        self._half_closed = True
        return True

    def force_close(self) -> None:
        """As aiohttp's, but a caller that does not read does not hold the socket for ever."""
        transport = self.transport
        super().force_close()
        self._see_off(transport)

    def _see_off(self, transport: asyncio.Transport | None) -> None:
        """A closed transport first sends what it still holds; with a reader that stalls, that would never end."""
        if transport is not None and transport.get_write_buffer_size():
            self._loop.call_later(STALL_SECONDS, transport.abort)

    def resume_reading(self, resume_parser: bool = True) -> None:
        """As aiohttp's, which is called at every read of a body: nothing paused, nothing to do."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    async def start(self) -> None:
        """Answer the connection's requests, one after the other, in this one task.

        aiohttp's own loop with what our request and our handler leave to do: no task, no writer and no response object
        for each request, no access log. A caller that leaves, and the end of the service, cancel the task.
        """
        manager = self._manager
        assert manager is not None
        while not self._force_close:
            if not self._messages:
                if self._half_closed:
                    break
                self._backlog = 0
                self._waiter = self._loop.create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
                if self._in_head:
                    self._in_head = False
                    if self._keepalive_handle is not None:  # made for the head; the idle time may be shorter
                        self._keepalive_handle.cancel()
                        self._keepalive_handle = None
            message, payload = self._messages.popleft()
            if self._parser is not None:
                self._parser.message_consumed()
            if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
                self._backlog = 0
                self._resume_reading_if_drained()
            manager.requests_count += 1
            if not await self._serve(message, payload):
                break
            if not self._keepalive or self._close or self._force_close:
                break
            self._next_keepalive_close_time = due = self._loop.time() + self._keepalive_timeout
            if self._keepalive_handle is None:
                self._keepalive_handle = self._loop.call_at(due, self._process_keepalive)
        if not self._force_close:
            self._task_handler = None
            if self.transport is not None:
                self.transport.close()
                self._see_off(self.transport)

    async def _serve(self, message: RawRequestMessage | _ErrInfo, payload: StreamReader) -> bool:
        """Whether the connection is still of use. Raises CancelledError, with the connection closed."""
        try:
            if isinstance(message, _ErrInfo):
                request = HttpRequest(self._front, ERROR, payload, self)
                self.handle_error(request, message.status, message.exc, message.message)
            else:
                request = HttpRequest(self._front, message, payload, self)
                if message.upgrade:  # declined, and with it what follows: the parser does not keep all of it
                    request.keep_alive = False
                refused = refusal(message)
                if refused is None:
                    await self._answer(request)
                else:
                    request.keep_alive = False
                    self._show(request, refused)
            self._keepalive = request.keep_alive
            if not payload.is_eof():
                await self._linger(payload)
        except ConnectionError:
            return False
        except asyncio.CancelledError:
            self.force_close()
            raise
        except Exception as error:  # noqa: BLE001 - a broken rest of a body: one connection the less
            self.log_exception("Unhandled exception", exc_info=error)
            self.force_close()
        return True

    async def _answer(self, request: HttpRequest) -> None:
        self._request_in_progress = True
        self._current_request = request  # type: ignore[assignment]  # ours stands in for aiohttp's
        try:
            await self._handler(request)
        except Exception as error:  # noqa: BLE001 - the edge lets none out; whoever waits must not wait for ever
            self.handle_error(request, 500, error)
        finally:
            self._current_request = None
            self._request_in_progress = False
            if self._handler_waiter is not None:
                self._handler_waiter.set_result(None)

    async def _linger(self, payload: StreamReader) -> None:
        """Read what is still coming of a body, for a while, so that its sender gets to read the answer."""
        left = LINGER_BYTES
        if not self._force_close:
            with suppress(TimeoutError, RequestPayloadError):
                async with asyncio.timeout(self._lingering_time):
                    while not payload.is_eof() and left > 0:
                        left -= len(await payload.readany())
        if not payload.is_eof() and not self._force_close:
            self.close()
        payload.set_exception(_PAYLOAD_ACCESS_ERROR)

    def handle_error(
        self,
        request: Any,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> Any:
        request.keep_alive = False
        if request.committed:
            raise ConnectionResetError("the answer has begun already")
        self._show(request, unparsable(exc, message or "") if status < 500 else InternalError())
        return request


def _since_data(transport: asyncio.Transport | None) -> float:
    """Seconds since the last bytes came in, as the kernel saw it: a loop that was busy would see them come together
    with an end that came much later. Infinite where the system does not tell, which is everywhere but on Linux."""
    raw: Any = transport.get_extra_info("socket") if transport is not None else None
    try:
        info = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 56)
        return float(struct.unpack_from("I", info, 52)[0]) / 1000  # tcpi_last_data_recv
    except (AttributeError, OSError, struct.error):
        return float("inf")


def refusal(message: RawRequestMessage) -> GatewayError | None:
    """Why a request that can be parsed is not served: what others on its way may frame differently (RFC 9112 6.1)."""
    codings = message.headers.getall("Transfer-Encoding", None)
    if codings is None:
        if message.version is HttpVersion11 or message.version == HttpVersion10:
            return None
        return BadRequest("not a valid HTTP/1.1 request: HTTP/1.0 and HTTP/1.1 are the versions spoken here")
    if message.version != HttpVersion11:
        return BadRequest("Transfer-Encoding needs HTTP/1.1")
    if len(codings) == 1 and codings[0].lower() == "chunked":
        return None
    return UnknownCoding(_CODINGS)


def unparsable(exc: BaseException | None, message: str) -> GatewayError:
    """What a caller is told whose request the parser refused. `message` is the parser's and may quote the request."""
    if isinstance(exc, LineTooLong):
        return HeadTooLarge("request line or header is too long: 8190 bytes at most")
    told = message.lower()
    if "content-length" in told and "transfer-encoding" in told:
        return BadRequest("Content-Length and Transfer-Encoding exclude each other")
    if "content-length" in told and ("already present" in told or "duplicate" in told or "conflict" in told):
        return BadRequest("conflicting Content-Length headers")
    if "invalid `transfer-encoding`" in told:
        return UnknownCoding(_CODINGS)
    if "content-length" in told:
        return BadRequest("Content-Length is not a number")
    return BadRequest("not a valid HTTP/1.1 request")


class EdgeServer(web.Server):
    """A protocol factory for `loop.create_server`. A caller that leaves cancels its handler."""

    def __init__(
        self,
        handler: Callable[[HttpRequest], Awaitable[Any]],
        front: Front,
        show: Show,
        *,
        idle_seconds: float = 0,
    ) -> None:
        """`show` writes an error answer; `idle_seconds` between two requests, 0: no limit of the operator's."""
        super().__init__(
            handler,  # type: ignore[arg-type]  # our request stands in for aiohttp's
            handler_cancellation=True,
            keepalive_timeout=idle_seconds or UNBOUNDED_IDLE,
            tcp_keepalive=True,
            access_log=None,
            lingering_time=LINGER_SECONDS,
            auto_decompress=False,
            read_bufsize=READ_BUFFER,
        )
        self.handler = handler
        self.front = front
        self.show = show

    def __call__(self) -> RequestHandler:
        return _Protocol(self, loop=self._loop, **self._kwargs)
