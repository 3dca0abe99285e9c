"""Where HTTP ends: a request is matched to its endpoint, run through the endpoint's stages, and errors become answers.

An exact path table, nothing else: no patterns, no trailing slashes, no decoding of the path. The only module that
turns a GatewayError into a response (style 1); the body of it is the dialect's business.
"""

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from ..canonical.errors import CallerError, GatewayError, TooLarge
from ..canonical.usage import NO_USAGE
from ..dialects.base import Dialect
from ..pipeline.deliver import ReaderStalled, flush
from ..pipeline.endpoint import Endpoint
from ..pipeline.exchange import Exchange, Inbound
from ..pipeline.runner import Stage, run
from ..pipeline.services import Services
from ..pipeline.stages.open_account import open_account
from ..telemetry.proxy_metrics import InFlight
from ._http import Front, HttpRequest
from ._server import EdgeServer

OTHER: Final = "other"
"""The `endpoint` label of paths that are none of ours."""
_JSON: Final = b"Content-Type: application/json\r\n"


class EndpointRemoved(CallerError):
    """410: what earlier versions served here."""

    status = 410
    code = "endpoint_removed"


class _Route:
    """One endpoint, with the gauge of its requests in flight."""

    __slots__ = ("endpoint", "in_flight", "stages")

    def __init__(self, endpoint: Endpoint, services: Services) -> None:
        self.endpoint = endpoint
        self.stages: Sequence[Stage] = endpoint.stages
        self.in_flight = InFlight(services.metrics, endpoint.path, endpoint.protocol)


class Edge:
    """The handler of the proxy's listener."""

    def __init__(self, services: Services, endpoints: Sequence[Endpoint], fallback: Dialect) -> None:
        """`fallback` words the errors of requests that reach no endpoint."""
        self._services = services
        self._fallback = fallback
        self._routes: dict[str, dict[str, _Route]] = {}
        for endpoint in endpoints:
            methods = self._routes.setdefault(endpoint.path, {})
            route = methods[endpoint.method] = _Route(endpoint, services)
            if endpoint.method == "GET":
                methods["HEAD"] = route

    def server(self) -> EdgeServer:
        """The protocol factory to listen with. Must be called in the running loop."""
        settings = self._services.settings
        front = Front(
            self._services.lifecycle,
            body_limit=settings.proxy.request_body_limit_bytes,
            accept_ids=settings.proxy.request_id.accept_headers,
        )
        return EdgeServer(self.handle, front, self._show, idle_seconds=settings.downstream.idle_timeout_secs)

    async def handle(self, request: HttpRequest) -> HttpRequest:
        """Serve one request. Raises nothing but CancelledError, when the caller left or the service ends."""
        lifecycle = self._services.lifecycle
        lifecycle.enter()
        try:
            await self._serve(request)
            if request.paused:  # whoever does not read gets no second answer made for it
                await flush(request)
        except (ConnectionError, ReaderStalled):
            request.abort()
        finally:
            lifecycle.leave()
            if request.committed and not request.finished:  # a stream that broke off must not look complete
                request.abort()
        return request

    async def _serve(self, request: HttpRequest) -> None:
        path, query = split_target(request.target)
        methods = self._routes.get(path)
        route = methods.get(request.method) if methods else None
        if route is None:
            await self._decline(request, path, methods)
            return
        inbound = Inbound(
            request.method, path, query, request.headers, request.peer, request.request_id, request.caller_request_id
        )
        exchange = Exchange(self._services, route.endpoint, inbound, request.read_body, request)
        too_large = request.declared_too_large
        route.in_flight.enter()
        try:
            await run(exchange, (open_account, _refuse(request)) if too_large else route.stages)
        except GatewayError as error:
            if not request.committed:
                self._show(request, error, route.endpoint.dialect)
            if isinstance(error, TooLarge):
                await self._discard(request, path, route.endpoint.protocol)
        finally:
            route.in_flight.leave()

    async def _decline(self, request: HttpRequest, path: str, methods: Mapping[str, object] | None) -> None:
        """No endpoint takes it. Its length is looked at all the same: that comes before the path (data-plane 1)."""
        if request.declared_too_large:
            label = path if methods else OTHER
            self._show(request, request.too_large())
            self._count(label, 413)
            await self._discard(request, label, "openai")
        elif methods:
            request.send(405, b"Allow: %b\r\n" % ",".join(methods).encode(), b"")
            self._count(path, 405)
        elif path.startswith("/passthrough/"):
            self._show(
                request,
                EndpointRemoved("the /passthrough/ endpoint was removed; a passthrough route takes its place"),
            )
            self._count(OTHER, 410)
        else:
            request.send(404, b"", b"")
            self._count(OTHER, 404)

    async def _discard(self, request: HttpRequest, label: str, protocol: str) -> None:
        outcome = await request.discard_body()
        self._services.metrics.body_limit_rejections.cell(label, protocol, outcome).add(1)

    def _count(self, endpoint: str, status: int) -> None:
        self._services.metrics.anonymous(endpoint, "openai", status, inference=False).settle(0.0, None, NO_USAGE)

    def _show(self, request: HttpRequest, error: GatewayError, dialect: Dialect | None = None) -> None:
        if isinstance(error, TooLarge):
            request.keep_alive = False
        body, extra = (dialect or self._fallback).error(error)
        lines = b"".join(b"%b: %b\r\n" % (name.encode(), value.encode()) for name, value in extra.items())
        request.send(error.status, lines if b"content-type" in lines.lower() else _JSON + lines, body)


def _refuse(request: HttpRequest) -> Stage:
    async def refuse_length(exchange: Exchange) -> None:
        """In place of all further stages: the length was told before anything was read (data-plane 3)."""
        raise request.too_large()

    return refuse_length


def split_target(target: str) -> tuple[str, str]:
    """Path and query of a request target in origin or absolute form, both as they came (not decoded)."""
    if not target.startswith("/"):
        try:
            parts = urlsplit(target)
        except ValueError:
            return "", ""
        return (parts.path or "/") if parts.scheme else "", parts.query
    path, _, query = target.partition("?")
    return path, query
