"""The HTTP side of the Cloud: `/dp/*` over TLS, HTTP/1.1. Who calls is what the client certificate's URI SANs say.

    app.troubles.add("/dp/telemetry", status=503)              # until cleared
    app.troubles.add("/dp/budget_check", delay=2.0, times=3)   # the next three are answered late, but rightly
    app.troubles.add("/dp/", garbage=True)                     # 200, and a body that is nothing
    app.troubles.add("/dp/heartbeat", lost=True, times=1)      # done, but the answer is lost on the way
    app.troubles.clear()

A path meets the first trouble whose path it starts with.
"""

import asyncio
import json
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from .enrolment import Enrolment, Refused
from .issuer import SCHEME, Identity, Issuer
from .ledger import Ledger

GARBAGE: Final = b'{"allow": tru\x00\xff<html>'
ALLOW: Final[Mapping[str, Any]] = {"allow": True, "fail_mode": "sticky"}


@dataclass(slots=True)
class Trouble:
    """What calls of a path meet. `times`: so many of them; None: all."""

    path: str
    status: int = 0
    delay: float = 0.0
    garbage: bool = False
    lost: bool = False
    times: int | None = None


class Troubles:
    """What was asked for and is not over."""

    def __init__(self) -> None:
        self._all: list[Trouble] = []

    def add(
        self,
        path: str,
        *,
        status: int = 0,
        delay: float = 0.0,
        garbage: bool = False,
        lost: bool = False,
        times: int | None = None,
    ) -> None:
        """Calls whose path starts with `path` meet this from now on. `delay` in seconds."""
        self._all.append(Trouble(path, status, delay, garbage, lost, times))

    def clear(self) -> None:
        self._all.clear()

    def met(self, path: str) -> Trouble | None:
        """The trouble that a call of this path meets."""
        found = next((each for each in self._all if path.startswith(each.path)), None)
        if found is not None and found.times is not None:
            found.times -= 1
            if found.times <= 0:
                self._all.remove(found)
        return found


class Endpoints:
    """The app; see the module. `saved` is called when what must outlive the process has changed."""

    def __init__(self, issuer: Issuer, enrolment: Enrolment, ledger: Ledger, saved: Callable[[], None]) -> None:
        self.troubles = Troubles()
        self.budgets: dict[str, Mapping[str, Any]] = {}
        """Decisions by API key id; a key without one is allowed."""
        self.budget_asks: Counter[str] = Counter()
        self.calls: Counter[tuple[str, int]] = Counter()
        """By path and status; 0 where no answer was sent."""
        self.environments: frozenset[str] = frozenset()
        """Those whose certificates are taken."""
        self._issuer = issuer
        self._enrolment = enrolment
        self._ledger = ledger
        self._saved = saved

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._watch], client_max_size=8 << 20)
        app.router.add_post("/dp/enroll", self._enrol)
        app.router.add_post("/dp/rotate-cert", self._known(self._rotate))
        app.router.add_post("/dp/heartbeat", self._known(self._heartbeat))
        app.router.add_post("/dp/telemetry", self._known(self._telemetry))
        app.router.add_get("/dp/budget_check", self._known(self._budget))
        return app

    @web.middleware
    async def _watch(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        status = 0
        try:
            response = await self._answer(request, handler, self.troubles.met(request.path))
            status = response.status
            return response
        except web.HTTPException as error:
            status = error.status
            raise
        finally:
            self.calls[request.path, status] += 1

    async def _answer(self, request: web.Request, handler: Handler, trouble: Trouble | None) -> web.StreamResponse:
        if trouble is not None:
            await asyncio.sleep(trouble.delay)
            if trouble.status:
                return web.Response(status=trouble.status, text="the Cloud is out of order")
            if trouble.garbage:
                return web.Response(body=GARBAGE, content_type="application/json")
        try:
            response = await handler(request)
        except Refused as refused:
            response = web.json_response({"error": {"message": str(refused)}}, status=refused.status)
        if trouble is not None and trouble.lost:
            if request.transport is not None:
                request.transport.abort()
            raise asyncio.CancelledError
        return response

    def _known(self, handler: Callable[[web.Request, Identity], Awaitable[web.Response]]) -> Handler:
        async def checked(request: web.Request) -> web.Response:
            return await handler(request, self._caller(request))

        return checked

    def _caller(self, request: web.Request) -> Identity:
        """Raises Refused 401: no certificate, or one that holds no more; 403: of an environment that is not ours."""
        shown = request.transport.get_extra_info("peercert") if request.transport is not None else None
        if not shown:
            raise Refused(401, "a client certificate is needed")
        found = {"env": "", "dp": ""}
        for kind, text in shown.get("subjectAltName", ()):
            uri = urlsplit(text)
            if kind == "URI" and uri.scheme == SCHEME and uri.netloc in found:
                found[uri.netloc] = uri.path.removeprefix("/")
        identity = Identity(found["env"], found["dp"], int(shown["serialNumber"], 16))
        if not identity.env_id or not identity.dp_id:
            raise Refused(401, "the certificate names no environment or no gateway")
        if identity.serial in self._issuer.revoked:
            raise Refused(401, "the certificate was revoked")
        if identity.env_id not in self.environments:
            raise Refused(403, "this environment does not exist")
        return identity

    async def _enrol(self, request: web.Request) -> web.Response:
        asked = await _document(request)
        answer = self._enrolment.enrol(asked.get("token"), asked.get("csr"))
        self._saved()
        return web.json_response(answer)

    async def _rotate(self, request: web.Request, caller: Identity) -> web.Response:
        return web.json_response(self._enrolment.rotate(caller, (await _document(request)).get("csr")))

    async def _heartbeat(self, request: web.Request, caller: Identity) -> web.Response:
        self._ledger.beat(caller, await _document(request), request.headers.get("User-Agent", ""))
        return web.json_response({"ok": True})

    async def _telemetry(self, request: web.Request, caller: Identity) -> web.Response:
        self._ledger.take(caller, await _document(request))
        return web.json_response({"ok": True})

    async def _budget(self, request: web.Request, caller: Identity) -> web.Response:
        key = request.query.get("api_key_id", "")
        if not key:
            raise Refused(400, "api_key_id: is needed")
        self.budget_asks[key] += 1
        return web.json_response(self.budgets.get(key, ALLOW))


async def _document(request: web.Request) -> dict[str, Any]:
    """The body. Raises Refused 400: it is no JSON object."""
    try:
        document = json.loads(await request.read())
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise Refused(400, "the body must be a JSON object")
    return document


def server_context(issuer: Issuer, certificate: tuple[object, object]) -> ssl.SSLContext:
    """TLS of the app: callers may come without a certificate (to enrol); one they show must be good."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(certificate[0]), str(certificate[1]))
    context.load_verify_locations(cadata=issuer.ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    return context
