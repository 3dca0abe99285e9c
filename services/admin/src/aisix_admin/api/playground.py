"""`POST /playground/chat/completions`: takes no admin key but the caller key of the proxy, and answers what it answers.

Nothing is held back on the way, neither up nor down; when the caller leaves, the chat is cut at the proxy too.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import ClientError, HttpVersion11, web

from aisix_common.service.headers import REQUEST_ID
from aisix_common.tasks import TaskOwner

from ..errors import AdminError, HungUp, TooSlow
from ..playground import BODY_LIMIT, BodyFailed, answer_headers, request_headers, too_large
from ..server import EXPECT
from ..services import Services
from . import shapes
from .description import describe, passes, takes
from .edge import REQUEST, Handler

LOOK_SECONDS: Final = 0.5
"""How often it is looked whether the caller is still there; aiohttp does not tell a handler."""


def relaying(services: Services) -> Handler:
    """The relay."""

    async def handler(request: web.Request) -> web.StreamResponse:
        services.playground.require_wired()
        if (request.content_length or 0) > BODY_LIMIT:
            raise too_large()
        async with TaskOwner() as own:
            relay = own.spawn(_relay(services, request), name="playground")
            while not relay.done():
                await asyncio.wait([relay], timeout=LOOK_SECONDS)
                if request.transport is None or request.transport.is_closing():
                    break
            if not relay.done():
                raise HungUp
            outcome = relay.result()
        if isinstance(outcome, AdminError):
            raise outcome
        return outcome

    passes(handler, "What the proxy answers, as it is: its status, its errors, JSON or server-sent events.")
    takes(handler, shapes.Chat())
    errors = {
        400: "The body could not be read to its end; or the proxy says so.",
        408: "The body did not arrive in time.",
        413: "The body is too large.",
        501: "No proxy is configured for the playground.",
        502: "The proxy cannot be reached.",
    }
    summary = "A chat through the proxy, with the key of a caller"
    return describe(handler, tag="playground", name="playground", summary=summary, errors=errors, admin=False)


async def _relay(services: Services, request: web.Request) -> web.StreamResponse | AdminError:
    """The answer, sent already; or what is to be answered instead."""
    headers = request_headers(request.headers, peer=request.remote, request_id=(REQUEST_ID, request[REQUEST]))
    response: web.StreamResponse | None = None
    try:
        async with services.playground.relayed(headers, _body(request, services.body_seconds)) as received:
            response = web.StreamResponse(
                status=received.status, reason=received.reason, headers=answer_headers(received.headers)
            )
            await response.prepare(request)
            async for chunk in received.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response
    except AdminError as error:
        return error
    except (ClientError, OSError) as error:
        if response is None:
            services.log.warning("the playground's answer broke off before it began", error=type(error).__name__)
            return HungUp()
        if request.transport is not None:
            request.transport.abort()  # the caller must see that it is cut
        return response


async def _body(request: web.Request, seconds: float) -> AsyncIterator[bytes]:
    """The body as it arrives. Raises TooSlow, BodyFailed."""
    if request.get(EXPECT) is not None and request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer has not begun
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                chunk = await request.content.readany()
        except TimeoutError:
            raise TooSlow from None
        except (web.RequestPayloadError, OSError):
            raise BodyFailed from None
        if not chunk:
            return
        yield chunk
