"""A handful of fixed GET pages, such as metrics and status, on a listener of their own."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, TypeAlias, cast

import msgspec
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from ..errors import ConfigurationError, Problem
from ..logs import get_logger
from ..metrics import CONTENT_TYPE, Family, Metrics, ProcessMetrics, render
from ..settings import Address
from .headers import SERVER
from .listener import Connections, Listener

Page: TypeAlias = Callable[[], Awaitable[tuple[int, str, bytes]]]
"""Answers one GET: status, content type, body."""

FAMILIES: Final = "/families"
"""Where a worker process serves what it counted, as msgpack, to its parent."""
IDLE_SECONDS: Final = 75.0
"""A scraper's connection is kept this long between two scrapes, unless `downstream.idle_timeout_secs` says else."""

_log = get_logger(__name__)
_encoder: Final = msgspec.msgpack.Encoder()


def serve_pages(pages: Mapping[str, Page], *, idle_seconds: float = 0) -> Connections:
    """Serves exactly these paths to GET and HEAD, 405 to other methods, 404 elsewhere; a page that fails is a 500.

    A connection is closed after `idle_seconds` between two requests; 0: after 75. To be called in the loop that serves.
    """
    fixed = dict(pages)

    async def handle(request: web.BaseRequest) -> web.Response:
        page = fixed.get(request.path)
        if page is None:
            return _response(404, "", b"")
        if request.method not in ("GET", "HEAD"):
            return _response(405, "", b"", {"Allow": "GET,HEAD"})
        try:
            return _response(*await page())
        except Exception:  # noqa: BLE001 - logged, and one page takes nothing else with it
            _log.exception("a page failed", path=request.path)
            return _response(500, "", b"")

    # The low-level server: there is nothing to route, and no access log of these.
    return cast("Connections", _Server(handle, access_log=None, keepalive_timeout=idle_seconds or IDLE_SECONDS))


class _Protocol(RequestHandler):
    """aiohttp's connection, without its habit of quoting what it cannot parse: that may be somebody's key."""

    __slots__ = ()

    def handle_error(
        self, request: object, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.Response:
        _log.warning("a request could not be read", status=status, error=type(exc).__name__)
        response = _response(status, "", b"")
        response.force_close()
        return response


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return _Protocol(self, loop=self._loop, **self._kwargs)


def _response(status: int, content_type: str, body: bytes, more: Mapping[str, str] | None = None) -> web.Response:
    headers = {"Server": SERVER, "X-Content-Type-Options": "nosniff", **(more or {})}
    if content_type:
        headers["Content-Type"] = content_type
    return web.Response(status=status, body=body, headers=headers)


def metrics_page(collect: Callable[[], Awaitable[Iterable[Family]]]) -> Page:
    """The page Prometheus scrapes, of whatever `collect` gives."""

    async def page() -> tuple[int, str, bytes]:
        families = await collect()
        # In a thread: thousands of series take longer than a request may be kept waiting.
        return 200, CONTENT_TYPE, await asyncio.to_thread(render, families)

    return page


def metrics_listener(
    metrics: Metrics,
    pages: Mapping[str, Page],
    *,
    address: Address,
    path: str = "/metrics",
    setting: str,
    idle_seconds: float = 0,
) -> Listener:
    """The listener for Prometheus at `path`, and `pages` (`/status/config`, ...) beside it.

    The metrics of the process itself are added. `setting` names the address in errors, as `<section>.addr`.
    `idle_seconds` is `downstream.idle_timeout_secs`. Raises ConfigurationError when `path` is also the path of a page.
    """
    process = ProcessMetrics()

    async def collect() -> list[Family]:
        return metrics.collect() + process.collect()

    async def families() -> tuple[int, str, bytes]:
        return 200, "application/msgpack", _encoder.encode(await collect())

    all_pages = with_metrics(pages, path, metrics_page(collect), setting)
    return Listener(
        "metrics",
        setting,
        address,
        lambda: serve_pages(all_pages, idle_seconds=idle_seconds),
        behind=lambda: serve_pages({FAMILIES: families, **pages}),
        metrics=metrics,
    )


def with_metrics(pages: Mapping[str, Page], path: str, page: Page, setting: str) -> Mapping[str, Page]:
    """`pages` and the metrics page at `path`. Raises ConfigurationError when one of them is there already."""
    path = normalised(path)
    if path in pages:
        where = f"{setting.rpartition('.')[0]}.path"
        raise ConfigurationError([Problem(where, f"{path} is taken by another page of this listener; choose another")])
    return {path: page, **pages}


def normalised(path: str) -> str:
    """The path as it is served: `/metrics` for a blank one, with a leading slash."""
    path = path.strip() or "/metrics"
    return path if path.startswith("/") else f"/{path}"
