"""What the doubles of cloud services share: listening, faults on demand, what they have seen, and signing keys.

A fault is told to a `Faults` queue and met by the requests that come next:

    double.faults.add(429, retry_after="2")          # the next request is throttled
    double.faults.add(503, times=3, path="/token")   # the next three whose path holds `/token` fail
    double.faults.add(delay=0.5)                     # answered late, but rightly
    double.faults.add(cut=True, times=2)             # the connection ends without an answer; twice, as aiohttp's
                                                     # client asks anew where that was a connection it had kept
    double.faults.add(hang=True)                     # no answer for as long as the caller waits
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it arrived and the status it got: 0 where no answer was sent. Header names are lower-case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    status: int


@dataclass(frozen=True, slots=True)
class Fault:
    """What the next request meets; status 0: no error, only late (`delay`, seconds), cut, or never answered."""

    status: int = 0
    retry_after: str | None = None
    delay: float = 0.0
    cut: bool = False
    hang: bool = False
    path: str = ""


class Faults:
    """What was asked for and has not happened yet."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []

    def add(
        self,
        status: int = 0,
        *,
        retry_after: str | None = None,
        delay: float = 0.0,
        cut: bool = False,
        hang: bool = False,
        path: str = "",
        times: int = 1,
    ) -> None:
        """The next `times` requests whose path holds `path` meet this."""
        self._waiting += [Fault(status, retry_after, delay, cut, hang, path)] * times

    def clear(self) -> None:
        """Whatever has not happened yet will not."""
        self._waiting.clear()

    async def meet(self, request: web.Request) -> Fault | None:
        """The fault that the request meets, if its answer is an error; what is late, cut or silent happens here."""
        fault = next((each for each in self._waiting if each.path in request.path), None)
        if fault is None:
            return None
        self._waiting.remove(fault)
        if fault.hang:
            await asyncio.Event().wait()
        await asyncio.sleep(fault.delay)
        if fault.cut:
            if request.transport is not None:
                request.transport.abort()
            raise asyncio.CancelledError
        return fault if fault.status else None


def watched(faults: Faults, seen: list[Seen], answer: Callable[[Fault], web.StreamResponse]) -> Middleware:
    """Lets requests meet their faults, which `answer` words as the service does, and writes down what came in."""

    @web.middleware
    async def watch(request: web.Request, handler: Handler) -> web.StreamResponse:
        status = 0
        try:
            fault = await faults.meet(request)
            try:
                response = await handler(request) if fault is None else answer(fault)
            except web.HTTPException as error:
                status = error.status
                raise
            status = response.status
            return response
        finally:
            headers = {name.lower(): value for name, value in request.headers.items()}
            seen.append(Seen(request.method, request.path, dict(request.query), headers, status))

    return watch


def later(answer: web.Response, fault: Fault) -> web.Response:
    """The answer, with what the fault says of when to come back."""
    if fault.retry_after is not None:
        answer.headers["Retry-After"] = fault.retry_after
    return answer


@asynccontextmanager
async def listening(app: web.Application, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve the app on a loopback port while the context lasts; the port. Nothing waits for callers at the end."""
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@lru_cache
def signing_key(name: str) -> rsa.RSAPrivateKey:
    """An RSA key for each name and process: making one takes a tenth of a second."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def key_pem(key: rsa.RSAPrivateKey) -> str:
    """The private key, PKCS #8 in PEM."""
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()
