"""aiohttp sessions for small clients of ours: under a guard, without cookies, proxies and redirects of their own will.

aiohttp asks a resolver for names but not for address literals; the socket factory sees them all. So the resolver
judges names, where the host is known, and the factory what reaches it without having been judged.
"""

import asyncio
import socket
import ssl
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from aisix_common.errors import ConfigurationError, Problem

from .guard import Guard

MOST_BYTES = 4 << 20
_LIMIT = 64
_LOOKUPS = 2
"""Names of one session that are looked up at once: most sessions call one host."""
_NUMERIC = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
_NUMERIC_ADDRESS = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


def open_session(guard: Guard, ca_pem: str | None = None, *, timeout: float) -> aiohttp.ClientSession:
    """A session whose every connection `guard` has checked. `ca_pem`: authorities trusted besides the system's.
    `timeout`: seconds for a whole request. Bodies that are read as a whole are MOST_BYTES at most, else AnswerTooLarge.
    Whoever opens it closes it; `allow_redirects=False` is the caller's to say.

    On the event loop. Raises ConfigurationError for PEM that cannot be used.
    """
    context: ssl.SSLContext | bool = True
    if ca_pem is not None:
        context = _trusting(ca_pem)
    connector = _Connector(
        _Judged(guard),
        ssl=context,
        limit=_LIMIT,
        ttl_dns_cache=None,
        use_dns_cache=False,
    )
    return aiohttp.ClientSession(
        connector=connector,
        response_class=_Response,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=timeout),
        trust_env=False,
    )


class AnswerTooLarge(aiohttp.ClientPayloadError):
    """A body that is larger than anything we ask for."""

    def __init__(self) -> None:
        super().__init__(f"the answer has more than {MOST_BYTES >> 20} MiB")


class _Response(aiohttp.ClientResponse):
    """Takes no more of a body than may be: vendors' libraries read whatever comes, and it may never end."""

    async def read(self) -> bytes:
        if self._body is None:
            parts = bytearray()
            try:
                async for part in self.content.iter_any():
                    parts += part
                    if len(parts) > MOST_BYTES:
                        raise AnswerTooLarge
            except BaseException:
                self.close()
                raise
            self._body = bytes(parts)
        return self._body


class _Connector(aiohttp.TCPConnector):
    """Takes its resolver along when it is closed: aiohttp leaves one that it was given."""

    def __init__(self, judged: "_Judged", **options: Any) -> None:
        super().__init__(resolver=judged, socket_factory=judged.socket, **options)
        self._judged = judged

    def close(self, *, abort_ssl: bool = False) -> Coroutine[Any, Any, None]:
        self._judged.end()
        return super().close(abort_ssl=abort_ssl)


class _Judged(AbstractResolver):
    """Resolves as the system does, and lets through what the guard lets through.

    In threads of its own: a lookup that hangs keeps its thread long after nobody waits for it any more, and must not
    keep those that the requests' lookups need.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._threads = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="resolve")
        self._lifted: set[str] = set()
        """Addresses of hosts that the rule does not hold for: bounded by what an operator lists."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().run_in_executor(self._threads, _looked_up, host, port, family)
        addresses = [each["host"] for each in found]
        self._guard.check(host, addresses)
        if self._guard.lifts(host):
            self._lifted.update(addresses)
        return found

    async def close(self) -> None:
        self.end()

    def end(self) -> None:
        """Give the threads back; what hangs in them ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        """aiohttp's `socket_factory`: a socket for one address, if that may be called."""
        family, kind, protocol, _, address = info
        host = str(address[0])
        if host not in self._lifted:
            self._guard.check(host, [host])
        return socket.socket(family, kind, protocol)


def _looked_up(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    """What the system's resolver says, as aiohttp reads it. In a thread. Raises OSError."""
    results: list[ResolveResult] = []
    for found, _, protocol, _, address in socket.getaddrinfo(
        host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
    ):
        shown = str(address[0])
        if len(address) == 4 and address[3]:  # a link-local address means nothing without its zone
            shown = socket.getnameinfo(address, _NUMERIC)[0]
        if found in (socket.AF_INET, socket.AF_INET6):
            results.append(
                ResolveResult(
                    hostname=host, host=shown, port=port, family=found, proto=protocol, flags=_NUMERIC_ADDRESS
                )
            )
    return results


def _trusting(ca_pem: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(cadata=ca_pem)
    except (ssl.SSLError, ValueError, TypeError):  # TypeError: text beyond ASCII
        raise ConfigurationError([Problem("ca_cert", "is not usable PEM")]) from None
    return context
