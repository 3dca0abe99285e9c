"""One HTTP/1 request and its one answer, on aiohttp's server protocol and nothing of its framework (decision 0003).

aiohttp parses, keeps connections and hands requests over; this object stands in for its request and for its response,
and writes answers straight to the transport. It knows bytes and framing, and no endpoint, error or stage.
The private names (`_finish`, `_cancel`) are what aiohttp's protocol asks of a request;
`tests/proxy/endpoints/test_http.py` fails when a new aiohttp asks for more.
"""

import asyncio
import time
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final

from aiohttp import HttpVersion11
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler, RequestPayloadError
from multidict import CIMultiDictProxy

from aisix_common.service.headers import REQUEST_ID, SERVER, chosen_request_id, request_ids
from aisix_common.service.lifecycle import Lifecycle

from ..canonical.errors import BadRequest, CallerError, TooLarge

BODY_GAP_SECONDS: Final = 30.0
"""How long a caller may pause in the middle of its body."""
BODY_SECONDS: Final = 600.0
"""How long a whole body may take."""
DRAIN_BYTES: Final = 32 * 1024 * 1024
DRAIN_SECONDS: Final = 5.0
"""What is still read of a body that was refused, so that its sender gets to read the answer (data-plane 12.4)."""
_JOINED: Final = 64 * 1024
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}
_CLASSES: Final = ("Informational", "Success", "Redirection", "Client Error", "Server Error")
_STATUS: Final = {
    status: (
        f"HTTP/1.1 {status} {_PHRASES.get(status, _CLASSES[status // 100 - 1])}\r\nServer: {SERVER}\r\n{REQUEST_ID}: "
    ).encode()
    for status in range(100, 600)
}
"""The beginnings of heads; providers answer with statuses that no registry knows."""
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class SlowBody(CallerError):
    """408: the body did not come in time."""

    status = 408
    type = "timeout"


class _DateLine:
    """The Date header, made once a second."""

    __slots__ = ("_line", "_second")

    def __init__(self) -> None:
        self._second = 0
        self._line = b""

    def now(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._line = f"Date: {formatdate(second, usegmt=True)}\r\n".encode()
        return self._line


class Front:
    """What all requests of one listener share."""

    __slots__ = ("accept_ids", "body_limit", "date", "lifecycle", "request_ids")

    def __init__(self, lifecycle: Lifecycle, *, body_limit: int = 0, accept_ids: tuple[str, ...] = ()) -> None:
        """`body_limit` in bytes, 0: none. `accept_ids`: lower-case header names a caller may choose its id with."""
        self.lifecycle = lifecycle
        self.body_limit = body_limit
        self.accept_ids = accept_ids
        self.date = _DateLine()
        self.request_ids = request_ids()


class HttpRequest:
    """See the module. `Downstream` of the exchange it begins."""

    __slots__ = (
        "_asked",
        "_chunked",
        "_front",
        "_held",
        "_payload",
        "_protocol",
        "caller_request_id",
        "committed",
        "finished",
        "headers",
        "http11",
        "keep_alive",
        "method",
        "request_id",
        "target",
    )

    def __init__(
        self,
        front: Front,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
    ) -> None:
        self._front = front
        self._payload = payload
        self._protocol = protocol
        self._asked = False
        """The caller was told to send the body it announced with `Expect`."""
        self._chunked = False
        self._held = b""
        """The head of a stream, which waits for its first bytes."""
        self.method = message.method
        self.target = message.path
        self.headers: CIMultiDictProxy[str] = message.headers
        self.http11 = message.version >= HttpVersion11
        self.keep_alive = not message.should_close
        self.committed = False
        self.finished = False
        self.request_id = next(front.request_ids)
        self.caller_request_id = chosen_request_id(message.headers, front.accept_ids)

    @property
    def peer(self) -> str:
        """The address at the other end; `""` where the transport has none."""
        peer = self._protocol.peername
        return str(peer[0]) if isinstance(peer, tuple) else ""

    # The answer: `Downstream`

    def send(self, status: int, headers: bytes, body: bytes) -> None:
        """A whole answer in one write; a HEAD request gets the head alone."""
        head = self._head(status, headers + b"Content-Length: %d\r\n" % len(body))
        self.finished = True
        if self.method == "HEAD" or not body:
            self._write(head)
        elif len(body) <= _JOINED:
            self._write(head + body)
        else:
            self._write(head)
            self._write(body)

    def begin(self, status: int, headers: bytes) -> None:
        """The head of a stream: chunked, or for HTTP/1.0 ended by the connection's end."""
        self._chunked = self.http11
        if self._chunked:
            headers += b"Transfer-Encoding: chunked\r\n"
        else:
            self.keep_alive = False
        self._held = self._head(status, headers)

    def push(self) -> None:
        if self._held:
            head, self._held = self._held, b""
            self._write(head)

    def write(self, data: bytes) -> None:
        transport = self._protocol.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the caller is gone")
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        if self._held:
            data = self._held + data
            self._held = b""
        transport.write(data)

    def finish(self, last: bytes = b"") -> None:
        self.finished = True
        if self._chunked:
            last = b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last) if last else b"0\r\n\r\n"
        if self._held or last:
            self._write(self._held + last)
            self._held = b""

    @property
    def paused(self) -> bool:
        return self._protocol._paused

    @property
    def unsent(self) -> int:
        transport = self._protocol.transport
        return 0 if transport is None else transport.get_write_buffer_size()

    async def drain(self) -> None:
        await self._protocol._drain_helper()

    def abort(self) -> None:
        self.keep_alive = False
        transport = self._protocol.transport
        if transport is not None:
            transport.abort()

    def _head(self, status: int, headers: bytes) -> bytes:
        if self._front.lifecycle.draining or self._unasked:
            self.keep_alive = False
        connection = b""
        if not self.keep_alive:
            connection = b"Connection: close\r\n"
        elif not self.http11:
            connection = b"Connection: keep-alive\r\n"
        shown = self.caller_request_id or self.request_id
        head = b"".join(
            (_STATUS[status], shown.encode(), b"\r\n", self._front.date.now(), headers, connection, b"\r\n")
        )
        self.committed = True
        return head

    def _write(self, data: bytes) -> None:
        transport = self._protocol.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the caller is gone")
        transport.write(data)

    # The body

    @property
    def arrived(self) -> bool:
        """All of it is there."""
        return self._payload.is_eof()

    @property
    def declared_too_large(self) -> bool:
        """Its Content-Length is over the limit. (The parser let one well-formed value through at most.)"""
        limit = self._front.body_limit
        if not limit:
            return False
        declared = self.headers.get("Content-Length")
        return declared is not None and int(declared) > limit

    @property
    def _unasked(self) -> bool:
        """The caller waits to be asked for its body: it may send it or the next request after an answer like ours."""
        return not self._payload.is_eof() and "Expect" in self.headers and not self._asked

    def too_large(self) -> TooLarge:
        return TooLarge(f"request body exceeds {self._front.body_limit}-byte limit")

    async def read_body(self) -> bytes:
        """The whole body. Raises TooLarge, SlowBody, and BadRequest when its framing is broken."""
        payload = self._payload
        try:
            body = payload.read_nowait() if payload.is_eof() else await self._collect()
        except RequestPayloadError:
            self.keep_alive = False
            raise BadRequest("request payload is invalid: the framing of the body is broken") from None
        if self._front.body_limit and len(body) > self._front.body_limit:
            raise self.too_large()
        return body

    async def _collect(self) -> bytes:
        if self.http11 and self.headers.get("Expect", "").lower() == "100-continue":
            self._write(_CONTINUE)
            self._asked = True
        payload, limit = self._payload, self._front.body_limit
        pieces: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while not payload.at_eof():
                    async with asyncio.timeout(BODY_GAP_SECONDS):
                        piece = await payload.readany()
                    pieces.append(piece)
                    size += len(piece)
                    if limit and size > limit:
                        raise self.too_large()
        except TimeoutError:
            self.keep_alive = False
            raise SlowBody("the request body did not arrive in time") from None
        return b"".join(pieces)

    async def discard_body(self) -> str:
        """Read on, for a while, what nobody wants. Returns how it ended: completed, cap_reached, timeout or
        client_read_error (the `outcome` label of aisix_proxy_request_body_limit_rejections_total)."""
        self.keep_alive = False
        if self._unasked:
            return "completed"  # the caller was told before it sent anything
        left = DRAIN_BYTES
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self._payload.at_eof():
                    left -= len(await self._payload.readany())
                    if left < 0:
                        return "cap_reached"
        except TimeoutError:
            return "timeout"
        except (ConnectionError, RequestPayloadError):
            return "client_read_error"
        return "completed"

    # What aiohttp's protocol asks of a request and of a response

    def _finish(self) -> None:
        pass

    def _cancel(self, exc: BaseException) -> None:
        if not self._payload.is_eof():
            self._payload.set_exception(exc)

    async def prepare(self, request: Any) -> None:
        pass

    async def write_eof(self) -> None:
        pass
