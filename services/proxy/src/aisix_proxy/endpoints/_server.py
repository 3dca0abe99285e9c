"""aiohttp's low-level server, with the answers it would give by itself made ours (decision 0003).

Requests that cannot even be parsed get the gateway's envelope and headers. What they held is never echoed or logged:
it may be a key.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler, RequestPayloadError, _ErrInfo

from ..canonical.errors import BadRequest, CallerError, GatewayError, InternalError
from ._http import Front, HttpRequest, request_maker

READ_BUFFER: Final = 256 * 1024
LINGER_SECONDS: Final = 5.0
"""How long the rest of a body is still read when the answer went out before its end."""
UNBOUNDED_IDLE: Final = 3600.0
"""Seconds an idle connection is kept when no limit is configured: a dead peer must not hold a socket for ever."""

Show = Callable[[HttpRequest, GatewayError], None]


class HeadTooLarge(CallerError):
    """431: the request line or a header is longer than 8,190 bytes."""

    status = 431


class _Protocol(RequestHandler):
    """aiohttp's connection, answering what cannot be parsed in our own words."""

    __slots__ = ("_show",)

    def __init__(self, server: "EdgeServer", **options: Any) -> None:
        super().__init__(server, **options)
        self._show = server.show

    def data_received(self, data: bytes) -> None:
        """As aiohttp's, but a body whose framing breaks wakes whoever waits for the rest of it."""
        super().data_received(data)
        reading = self._current_request
        if reading is not None and self._messages and isinstance(self._messages[-1][0], _ErrInfo):
            reading._cancel(RequestPayloadError("the framing of the body is broken"))

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


def unparsable(exc: BaseException | None, message: str) -> GatewayError:
    """What a caller is told whose request the parser refused. `message` is the parser's and may quote the request."""
    if isinstance(exc, LineTooLong):
        return HeadTooLarge("request line or header is too long: 8190 bytes at most")
    told = message.lower()
    if "content-length" in told and "transfer-encoding" in told:
        return BadRequest("Content-Length and Transfer-Encoding exclude each other")
    if "content-length" in told and ("already present" in told or "duplicate" in told or "conflict" in told):
        return BadRequest("conflicting Content-Length headers")
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
            request_factory=request_maker(front),
            handler_cancellation=True,
            keepalive_timeout=idle_seconds or UNBOUNDED_IDLE,
            tcp_keepalive=True,
            access_log=None,
            lingering_time=LINGER_SECONDS,
            auto_decompress=False,
            read_bufsize=READ_BUFFER,
        )
        self.show = show

    def __call__(self) -> RequestHandler:
        return _Protocol(self, loop=self._loop, **self._kwargs)
