"""aiohttp's connections for the admin listener, with what aiohttp says on its own put into our words.

A request that cannot be parsed never reaches the application. aiohttp would quote its bytes, which may hold an admin
key, in the log and in the answer; here neither happens. Nor does it unpack bodies or answer `Expect` by itself,
which would come before the credential is looked at.
"""

import asyncio
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from aisix_common.logs import Logger
from aisix_common.service import REQUEST_ID, SERVER, new_request_id

IDLE_SECONDS: Final = 75.0
"""An idle connection of a client that reuses it is kept that long, unless `downstream.idle_timeout_secs` says else."""

LINGER_SECONDS: Final = 2.0
"""How long the rest of a body is still read when the answer went out before its end."""


EXPECT: Final = web.RequestKey("expect", str)
"""The value of the request's `Expect` header, which aiohttp does not get to see."""


class _Protocol(RequestHandler):
    __slots__ = ("_log",)

    def __init__(self, server: web.Server, log: Logger, **options: Any) -> None:
        super().__init__(server, **options)
        self._log = log

    def handle_error(
        self, request: Any, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        request_id = new_request_id()
        self._log.warning("a request could not be read", status=status, error=type(exc).__name__, request_id=request_id)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        text = "not a valid HTTP/1.1 request" if status < 500 else HTTPStatus(status).phrase
        body = msgspec.json.encode({"error_msg": text, "errors": [{"path": "", "message": text}]})
        headers = {"Server": SERVER, REQUEST_ID: request_id}
        response = web.Response(body=body, status=status, headers=headers, content_type="application/json")
        response.force_close()
        return response

    def log_exception(self, *args: Any, **more: Any) -> None:
        """aiohttp's own code failed; the text of an error may hold anything a client sent."""
        error = more.get("exc_info")
        self._log.error("a connection failed", error=type(error).__name__)


def _expectations_noted(make: Callable[..., web.BaseRequest]) -> Callable[..., web.BaseRequest]:
    """`make`, which makes requests, told nothing of `Expect`."""

    def noted(message: Any, *more: Any) -> web.BaseRequest:
        if "Expect" not in message.headers:
            return make(message, *more)
        headers = message.headers.copy()
        expected = ", ".join(headers.popall("Expect"))
        request = make(message._replace(headers=type(message.headers)(headers)), *more)
        request[EXPECT] = expected
        return request

    return noted


class Front:
    """What makes and closes the connections of the admin listener (`aisix_common.service.Connections`)."""

    def __init__(self, runner: web.AppRunner, log: Logger, *, idle_seconds: float = IDLE_SECONDS) -> None:
        """`runner` was set up already; whoever did that cleans it up."""
        server = runner.server
        assert server is not None, "the runner was set up"
        server.request_factory = _expectations_noted(server.request_factory)
        self._server = server
        self._log = log
        self._idle = idle_seconds
        self._loop = asyncio.get_running_loop()

    def __call__(self) -> asyncio.BaseProtocol:
        """A protocol for one accepted connection."""
        return _Protocol(
            self._server,
            self._log,
            loop=self._loop,
            access_log=None,
            keepalive_timeout=self._idle,
            lingering_time=LINGER_SECONDS,
            tcp_keepalive=True,
            auto_decompress=False,
        )

    @property
    def connections(self) -> Sequence[object]:
        """The connections that are open."""
        return self._server.connections

    def pre_shutdown(self) -> None:
        """Close idle connections now, and every other one after the answer it is working on."""
        self._server.pre_shutdown()

    async def shutdown(self, timeout: float | None = None) -> None:
        """Give answers under way `timeout` seconds, then close everything."""
        await self._server.shutdown(timeout)
