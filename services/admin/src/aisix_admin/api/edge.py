"""Around every request of the admin listener: its id, its caller, its errors as JSON, its line in the log, its count.

The only place that turns `errors.AdminError` and the framework's own refusals into HTTP. Nothing of a body or a query
string is logged, and no exception text that is not ours is sent.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from aisix_common.errors import Problem
from aisix_common.service.headers import REQUEST_ID, SERVER, chosen_request_id, new_request_id

from ..auth import Admin, credential
from ..body import BODY_LIMIT
from ..errors import (
    AdminError,
    BrokenBody,
    CallerError,
    FileManaged,
    Forbidden,
    NoSuchPath,
    PreconditionFailed,
    TooLarge,
    Unauthenticated,
    WrongMethod,
)
from ..preconditions import etag
from ..services import Services
from ..throttle import Reason, Throttled
from .intake import require_known_expectation

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

WHO: Final = web.RequestKey("admin", Admin)
"""Whose admin key the caller presented."""
REQUEST: Final = web.RequestKey("request_id", str)
"""The id of the request."""

BREATH: Final = 200
"""Rows that a handler decodes before other requests get their turn."""

_PROBES: Final = frozenset({"/livez", "/readyz"})
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})


def answer(body: object, status: int = 200, *, headers: Mapping[str, str] | None = None) -> web.Response:
    """`body` (JSON types) as an answer."""
    return encoded(msgspec.json.encode(body), status, headers=headers)


def encoded(body: bytes, status: int = 200, *, headers: Mapping[str, str] | None = None) -> web.Response:
    """`body` (JSON already) as an answer."""
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)


def refusal(error: AdminError) -> web.Response:
    """The envelope: the first problem as a sentence, and all of them as a list."""
    problems = error.problems or (Problem("", error.message),)
    shown = [{"path": problem.path, "message": problem.reason} for problem in problems]
    response = answer({"error_msg": error.message, "errors": shown}, error.status)
    if isinstance(error, WrongMethod):
        response.headers["Allow"] = error.allowed
    if isinstance(error, PreconditionFailed) and error.revision is not None:
        response.headers["ETag"] = etag(error.revision)
    if isinstance(error, Throttled):
        response.headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, BrokenBody):
        response.force_close()
    return response


def authenticated(
    handler: Handler, services: Services, *, writes: bool = False, stateful: bool = False, bare: bool = False
) -> Handler:
    """`handler` behind the admin keys. Keeps what aiohttp-apispec noted on it.

    `writes`: not for viewers. `stateful`: it needs etcd; in file mode it is refused, to those who may ask at all.
    `bare`: see `auth.credential`.
    """

    @functools.wraps(handler)
    async def guarded(request: web.Request) -> web.StreamResponse:
        request[WHO] = admin = await _admin(request, services, bare)
        if writes and not admin.writes:
            raise Forbidden
        if services.file is not None and (writes or stateful):
            raise FileManaged(services.file)
        return await handler(request)

    return guarded


async def _admin(request: web.Request, services: Services, bare: bool) -> Admin:
    """Whose key the request presents. Raises Unauthenticated, later with every failure of one address."""
    authorization = request.headers.getall("Authorization", [])
    presented = None
    if len(authorization) <= 1:  # two readers could believe different ones
        header = authorization[0] if authorization else None
        presented = credential(header, request.headers.get("x-api-key"), bare=bare)
    admin = services.admin_keys.who(presented)
    if admin is not None:
        return admin
    given = bool(authorization) or "x-api-key" in request.headers
    reason: Reason = "unknown" if presented else "malformed" if given else "missing"
    await services.throttle.failed(request.remote or "", reason)
    raise Unauthenticated


def edge(services: Services) -> Middleware:
    """The outermost middleware."""

    @web.middleware
    async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
        request_id = chosen_request_id(request.headers, (REQUEST_ID,)) or new_request_id()
        request[REQUEST] = request_id
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "unknown"
        began = asyncio.get_running_loop().time()
        response = await services.telemetry.timed(route, _answered(request, handler, services, request_id))
        if not response.prepared:
            response.headers["Server"] = SERVER
            response.headers[REQUEST_ID] = request_id
        method = request.method if request.method in _METHODS else "other"
        admin = request.get(WHO)
        services.telemetry.answered(method, route, response.status)
        # Probes come every few seconds, for ever: their lines are for who looks for them.
        note = services.log.debug if route in _PROBES else services.log.info
        note(
            "request",
            method=method,
            route=route,
            status=response.status,
            request_id=request_id,
            admin_key=admin and admin.name,
            seconds=round(asyncio.get_running_loop().time() - began, 4),
        )
        return response

    return around


async def _answered(request: web.Request, handler: Handler, services: Services, request_id: str) -> web.StreamResponse:
    try:
        require_known_expectation(request)
        return await handler(request)
    except AdminError as error:
        if not isinstance(error, CallerError):
            cause = str(error.__cause__ or "")
            services.log.warning("refused", request_id=request_id, reason=error.message, cause=cause)
        return refusal(error)
    except web.HTTPMethodNotAllowed as error:
        return refusal(WrongMethod(sorted(error.allowed_methods)))
    except web.HTTPNotFound:
        return refusal(NoSuchPath())
    except web.HTTPRequestEntityTooLarge:
        return refusal(TooLarge(f"the body is over {BODY_LIMIT} bytes"))
    except web.HTTPException as error:
        return refusal(_Framework(error))
    except Exception as error:  # noqa: BLE001 - the last line of defence
        # Its text may hold anything, a document's values included: only its type and place are told.
        services.log.error("unexpected error", request_id=request_id, type=type(error).__name__, at=_place(error))
        return refusal(AdminError("internal error: the log of this service has more under the request id"))


class _Framework(CallerError):
    """What aiohttp refuses on its own: its status, and its standard phrase."""

    def __init__(self, error: web.HTTPException) -> None:
        super().__init__(error.reason)
        self.status = error.status  # type: ignore[misc] # one class for all of them


def _place(error: BaseException) -> str:
    """Where an unexpected error was raised, as `file:line`: enough to find it, without its text."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
