"""From an origin to an established connection: resolve, connect, shake hands; each step bounded, named when it fails.

A name is resolved once, its addresses are held against the rule for URLs that operators set, and those very addresses
are connected to: what it resolves to a moment later makes no difference.

Knows settings and sockets; must not know pools or requests.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import TypeAlias

from aiohappyeyeballs import start_connection

from aisix_common.outbound import AddressRefused, Guard
from aisix_common.outbound.addresses import Reach
from aisix_common.settings import Upstream

from ..canonical.errors import UpstreamTimeout, UpstreamUnreachable
from ..canonical.http import Origin
from .connection import Connection, reason

AddressInfo: TypeAlias = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]

MOST_SECONDS = 32767
"""What Linux takes for the times of keepalive, in seconds; nobody takes more."""
MOST_PROBES = 127
"""What Linux takes for their number."""
ATTEMPT_DELAY = 0.25
"""Seconds a slow address has before the next one is tried beside it (RFC 8305)."""


class Dialer:
    """Opens connections with the settings of `upstream`."""

    def __init__(self, settings: Upstream, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._connect_timeout = settings.connect_timeout_ms / 1000
        self._options = _socket_options(settings)
        self._guard = Guard(Reach.OPERATOR, settings.metadata_hosts)

    async def dial(
        self, origin: Origin, context: ssl.SSLContext | None, make: Callable[[], Connection], left: float | None
    ) -> Connection:
        """A connection made by `make`. `left`: seconds of the exchange's own deadline; the connect timeout holds too.

        Raises UpstreamUnreachable, naming the step, UpstreamTimeout after the connect timeout, and TimeoutError when
        `left` is over: the exchange knows what to say of its own deadline. A cancelled dial leaves no socket.
        """
        limit = self._connect_timeout or None
        if left is not None and (limit is None or left < limit):
            limit = left
        try:
            async with asyncio.timeout(limit) as scope:
                addresses = await self._resolve(origin)
                sock = await self._connect(origin, addresses)
                return await self._establish(origin, sock, context, make)
        except TimeoutError:
            if scope.expired():
                if limit == left:
                    raise
                raise UpstreamTimeout(round(self._connect_timeout * 1000)) from None
            raise UpstreamUnreachable(f"connect to {peer(origin)}: connection timed out") from None

    async def _resolve(self, origin: Origin) -> list[AddressInfo]:
        host, port = origin.host, origin.port
        try:  # an address literal needs no thread
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except (socket.gaierror, UnicodeError):
            try:
                found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except (socket.gaierror, UnicodeError):
                raise UpstreamUnreachable(f"resolve {host}: no address found") from None
        addresses: list[AddressInfo] = [entry for entry in found if entry[0] in {socket.AF_INET, socket.AF_INET6}]  # type: ignore[misc]
        try:
            self._guard.check(host, [entry[4][0] for entry in addresses])
        except AddressRefused as refused:
            raise UpstreamUnreachable(f"connect to {peer(origin)}: {refused}") from None
        return addresses

    async def _connect(self, origin: Origin, addresses: list[AddressInfo]) -> socket.socket:
        try:
            sock = await start_connection(addresses, happy_eyeballs_delay=ATTEMPT_DELAY, interleave=1, loop=self._loop)
        except TimeoutError:
            raise
        except OSError as problem:
            raise UpstreamUnreachable(f"connect to {peer(origin)}: {reason(problem)}") from None
        try:
            for level, option, value in self._options:
                sock.setsockopt(level, option, value)
        except OSError as problem:
            sock.close()
            raise UpstreamUnreachable(f"prepare the connection to {peer(origin)}: {reason(problem)}") from None
        return sock

    async def _establish(
        self, origin: Origin, sock: socket.socket, context: ssl.SSLContext | None, make: Callable[[], Connection]
    ) -> Connection:
        connection = make()
        name = origin.host.rstrip(".") if context is not None else None
        try:
            await self._loop.create_connection(lambda: connection, sock=sock, ssl=context, server_hostname=name)
        except TimeoutError:
            connection.refuse()
            raise
        except (OSError, ssl.SSLError, ssl.CertificateError) as problem:
            connection.refuse()
            step = "connect to" if context is None else "TLS handshake with"
            raise UpstreamUnreachable(f"{step} {peer(origin)}: {reason(problem)}") from None
        except BaseException:
            connection.refuse()
            raise
        return connection


def peer(origin: Origin) -> str:
    """`host:port` for messages."""
    return f"[{origin.host}]:{origin.port}" if ":" in origin.host else f"{origin.host}:{origin.port}"


def _socket_options(settings: Upstream) -> list[tuple[int, int, int]]:
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    if settings.tcp_keepalive_secs:
        options.append((socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1))
        for name, value, most in (
            ("TCP_KEEPIDLE", settings.tcp_keepalive_secs, MOST_SECONDS),
            ("TCP_KEEPINTVL", settings.tcp_keepalive_interval_secs, MOST_SECONDS),
            ("TCP_KEEPCNT", settings.tcp_keepalive_retries, MOST_PROBES),
        ):
            if value and hasattr(socket, name):  # not every system has them all
                options.append((socket.IPPROTO_TCP, getattr(socket, name), min(value, most)))
    return options
