"""The playground: a chat request goes on to the proxy's public listener, and its answer comes back as it arrives.

The one place where services talk past etcd (design 1). The admin is an ordinary caller there: the key is the caller's
own, and nothing of the admin's is added. Knows the client side only; `api/playground.py` has the other one.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, DummyCookieJar
from multidict import CIMultiDict, CIMultiDictProxy

from .errors import AdminError, CallerError, TooLarge

BODY_LIMIT: Final = 16 * 1024 * 1024
CONNECT_SECONDS: Final = 5.0
_PATH: Final = "/v1/chat/completions"
_HOP_BY_HOP: Final = frozenset(
    {
        *("connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization"),
        *("te", "trailer", "transfer-encoding", "upgrade"),
    }
)
_OURS: Final = frozenset({"host", "expect"})
"""End-to-end headers of a request that are said anew on the way on."""
_NOT_MADE_UP: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class NotWired(CallerError):
    """No proxy is configured for the playground."""

    status = 501

    def __init__(self) -> None:
        super().__init__("playground not wired: proxy router not configured")


class ProxyAway(AdminError):
    """The proxy did not answer."""

    status = 502

    def __init__(self) -> None:
        super().__init__("the proxy at admin.playground_proxy_url cannot be reached, or gave no answer")


class BodyFailed(CallerError):
    """The body of the request could not be read to its end; what went wrong with it is the cause."""

    def __init__(self) -> None:
        super().__init__("the body of the request could not be read to its end")


class Playground:
    """Where chats are relayed to, if anywhere. A connection lives as long as its chat."""

    def __init__(self, proxy_url: str | None, *, connect_seconds: float = CONNECT_SECONDS) -> None:
        self._url = None if not proxy_url else proxy_url.rstrip("/") + _PATH
        self._timeout = ClientTimeout(total=None, connect=connect_seconds)

    def require_wired(self) -> None:
        """Raise NotWired where no proxy is configured."""
        if self._url is None:
            raise NotWired

    @asynccontextmanager
    async def relayed(self, headers: CIMultiDict[str], body: AsyncIterator[bytes]) -> AsyncIterator[ClientResponse]:
        """The proxy's answer to a POST, once its head is there. Leaving the block early closes the connection.

        `headers` go out as they are. Raises NotWired, ProxyAway, and whatever `body` raised.
        """
        self.require_wired()
        assert self._url is not None
        upload = _Upload(body)
        async with ClientSession(
            auto_decompress=False,
            cookie_jar=DummyCookieJar(),
            skip_auto_headers=_NOT_MADE_UP,
            timeout=self._timeout,
            trust_env=False,
        ) as session:
            try:
                answer = await session.post(self._url, data=upload.chunks(), headers=headers, allow_redirects=False)
            except (ClientError, OSError, ValueError) as error:
                raise upload.failure or ProxyAway() from error
            async with answer:
                yield answer


class _Upload:
    """A body on its way up. The client wraps what a body raises in words of its own: `failure` keeps it."""

    def __init__(self, body: AsyncIterator[bytes]) -> None:
        self._body = body
        self.failure: AdminError | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        sent = 0
        try:
            async for chunk in self._body:
                sent += len(chunk)
                if sent > BODY_LIMIT:
                    raise too_large()
                yield chunk
        except AdminError as error:
            self.failure = error
            raise


def too_large() -> TooLarge:
    """The refusal of a body over the bound."""
    return TooLarge(f"the body is over {BODY_LIMIT} bytes")


def request_headers(
    sent: CIMultiDictProxy[str], *, peer: str | None, request_id: tuple[str, str] | None = None
) -> CIMultiDict[str]:
    """What goes on of a caller's headers; with the caller's address behind those it came through already.

    `request_id` is a header and its value, for a request that has none.
    """
    headers = _end_to_end(sent, _OURS)
    if peer:
        before = headers.popall("X-Forwarded-For", [])
        headers["X-Forwarded-For"] = ", ".join((*before, peer))
    if request_id is not None and request_id[0] not in headers:
        headers.add(*request_id)
    return headers


def answer_headers(received: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """What goes back of the proxy's headers."""
    return _end_to_end(received, ())


def _end_to_end(headers: CIMultiDictProxy[str], more: Iterable[str]) -> CIMultiDict[str]:
    named = {name.strip().lower() for value in headers.getall("Connection", []) for name in value.split(",")}
    dropped = _HOP_BY_HOP | named | set(more)
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in dropped)
