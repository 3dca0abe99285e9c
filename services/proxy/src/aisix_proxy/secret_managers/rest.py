"""One call of a manager's HTTP API: bounded in time and size, never redirected, and every failure one of `base`'s.

Knows no manager. What went wrong with a connection is told in words that hold no credential and no answer's body.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from os import strerror
from typing import Any, Final, TypeVar

import aiohttp
import msgspec
from yarl import URL

from aisix_common.errors import ConfigurationError
from aisix_common.outbound import AddressRefused, AnswerTooLarge

from .base import Away, Context, Unusable

Document = TypeVar("Document")

MOST_BYTES: Final = 1 << 20
"""What an answer may hold, decompressed."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, whatever its status."""

    who: str
    status: int
    content: bytes = field(repr=False)

    def read(self, document: type[Document]) -> Document:
        """The body as a document of this type. Raises Away for anything else: whoever answered is not the API."""
        try:
            return msgspec.json.decode(self.content, type=document)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise Away(
                f"what answers ({self.status}) is not {self.who}'s API: check the address, and what stands before it"
            ) from None


class Rest:
    """Calls to one manager, over one session, which is opened at the first of them."""

    def __init__(self, who: str, context: Context, ca_pem: str | None = None, *, most_bytes: int = MOST_BYTES) -> None:
        """`who`: what the manager is called in reasons. `ca_pem`: an authority trusted besides the system's."""
        self._who = who
        self._context = context
        self._ca_pem = ca_pem
        self._most_bytes = most_bytes
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def ask(self, method: str, url: str, headers: Mapping[str, str], document: Any = None) -> Reply:
        """The answer to one request; `url` goes out as it is, so its segments are percent-encoded; `document` is sent
        as JSON. Redirects come back as what they are. Raises Away, or Unusable where nothing could be sent."""
        for name, value in headers.items():
            if not (value.isascii() and value.isprintable()):
                raise Unusable(f"what goes out as {name} holds characters that no header can carry: is it complete?")
        body = None if document is None else msgspec.json.encode(document)
        if body is not None:
            headers = {**headers, "Content-Type": "application/json"}
        try:
            async with self._opened().request(
                method, URL(url, encoded=True), headers=headers, data=body, allow_redirects=False
            ) as response:
                return Reply(self._who, response.status, await self._body(response))
        except TimeoutError:
            raise Away(_late(self._who, self._context.timeout)) from None
        except (aiohttp.ClientError, OSError) as problem:  # certificate errors are ValueErrors, too
            if isinstance(problem, aiohttp.InvalidURL):
                raise Unusable(_no_url(self._who)) from None
            raise Away(f"{self._who} cannot be reached: {reason(problem)}") from None
        except ValueError:  # yarl's, for a host or a port that is none
            raise Unusable(_no_url(self._who)) from None

    async def aclose(self) -> None:
        """Close the session; calls fail from now on."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._closed:
            raise Away("the provider was changed meanwhile")
        if self._session is None:
            try:
                self._session = self._context.open_session(self._ca_pem)
            except ConfigurationError:
                raise Unusable("its ca_cert is no certificate in PEM that can be used") from None
        return self._session

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        parts = bytearray()
        async for part in response.content.iter_any():
            parts += part
            if len(parts) > self._most_bytes:
                response.close()
                raise Away(f"{self._who} answers with more than {self._most_bytes >> 20} MiB")
        return bytes(parts)


@asynccontextmanager
async def within(who: str, seconds: float) -> AsyncIterator[None]:
    """Bounds all that is done for one secret. Raises Away when it took too long."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise Away(_late(who, seconds)) from None


def reason(problem: BaseException) -> str:
    """What went wrong with a connection, in words without an address, a certificate or a credential."""
    at = getattr(problem, "os_error", None) or getattr(problem, "certificate_error", None) or problem
    if isinstance(at, AddressRefused):  # names the host as it was configured, and what to do
        return str(at)
    if isinstance(problem, AnswerTooLarge):
        return str(problem)
    if isinstance(at, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {getattr(at, 'verify_message', '') or 'not trusted'}"
    if isinstance(at, ssl.SSLError):
        return f"TLS: {(getattr(at, 'reason', None) or 'protocol error').replace('_', ' ').lower()}"
    if isinstance(problem, aiohttp.ClientConnectorDNSError):
        return "its name leads to no address"
    if isinstance(at, OSError) and at.errno:
        return strerror(at.errno).lower()
    if isinstance(problem, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError):
        return "the connection was closed before the answer was complete"
    return "what answers does not speak HTTP"


def _no_url(who: str) -> str:
    return f"the address of {who} is no URL that can be called"


def _late(who: str, seconds: float) -> str:
    return f"{who} did not answer within {seconds:g} s (secrets.timeout_ms)"
