"""Kept connections: one pool for each origin and trust, last in first out, and the counts of them all.

Must not know requests or answers. A pool without connections is forgotten, so that configuration that comes and goes
leaves nothing behind.
"""

import asyncio
import ssl
from typing import Final

from aisix_common.errors import ConfigurationError
from aisix_common.settings import Upstream

from ..canonical.errors import UpstreamUnreachable
from ..canonical.http import Origin, TlsTrust
from .connection import Connection
from .dial import Dialer, peer
from .trust import TrustStore

MOST_IDLE: Final = 1024
"""Idle connections kept for one pool where `pool_max_idle_per_host` sets no bound."""
CLOSING: Final = 2.0
"""Seconds that closed transports have to end."""

Key = tuple[Origin, TlsTrust | None]


class Pool:
    """The connections to one origin under one trust."""

    __slots__ = ("_pools", "authority", "context", "idle", "key", "members", "peer")

    def __init__(self, pools: "Pools", key: Key) -> None:
        self._pools = pools
        self.key = key
        self.peer = peer(key[0])
        self.authority = key[0].authority
        self.context: ssl.SSLContext | None = None
        self.idle: list[Connection] = []
        self.members = 0
        """Open connections and those being opened."""

    def take(self) -> Connection | None:
        """The connection used last, if one is idle."""
        idle = self.idle
        while idle:
            connection = idle.pop()
            connection.parked = False
            self._pools.idle -= 1
            if connection.usable:
                connection.reused = True
                return connection
        return None

    async def dial(self, left: float | None) -> Connection:
        """A new connection. `left`: seconds. Raises as `Dialer.dial` does."""
        if not self.members:
            self._pools.enlist(self)
        self.members += 1
        try:
            return await self._pools.dial(self, left)
        finally:
            self.members -= 1  # `made` counted the connection itself
            self._pools.tidy(self)

    def made(self, connection: Connection) -> None:
        self.members += 1
        self._pools.open.add(connection)

    def release(self, connection: Connection) -> None:
        if not self._pools.keep(connection, len(self.idle)):
            connection.drop()
            return
        connection.parked = True
        self.idle.append(connection)

    def lost(self, connection: Connection) -> None:
        pools = self._pools
        pools.open.discard(connection)
        if connection.parked:
            connection.parked = False
            self.idle.remove(connection)
            pools.idle -= 1
        self.members -= 1
        pools.tidy(self)


class Pools:
    """All pools of one client."""

    def __init__(self, settings: Upstream, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._dialer = Dialer(settings, loop)
        self._trust = TrustStore(settings.tls)
        self._idle_timeout = settings.pool_idle_timeout_secs
        bound = settings.pool_max_idle_per_host
        self._max_idle = MOST_IDLE if bound is None else bound
        self._pools: dict[Key, Pool] = {}
        self._closed = False
        self._ended: asyncio.Future[None] | None = None
        self.open: set[Connection] = set()
        self.idle = 0

    def find(self, origin: Origin, trust: TlsTrust | None) -> Pool:
        """The pool for `origin` under `trust`; dial or take before the loop runs on, it may be new and forgotten."""
        key = (origin, trust)
        pool = self._pools.get(key)
        if pool is None:
            pool = Pool(self, key)
        return pool

    def enlist(self, pool: Pool) -> None:
        """`pool` is about to have its first connection."""
        self._pools[pool.key] = pool

    def __len__(self) -> int:
        return len(self._pools)

    async def dial(self, pool: Pool, left: float | None) -> Connection:
        """A new connection of `pool`."""
        if self._closed:
            raise UpstreamUnreachable("the gateway is shutting down")
        origin, trust = pool.key
        if pool.context is None and origin.scheme == "https":
            # Off the loop: building a context reads the system's whole list of authorities.
            try:
                pool.context = await self._loop.run_in_executor(None, self._trust.context, trust)
            except ConfigurationError as problem:  # it was fine at the start
                raise UpstreamUnreachable(f"TLS set-up for {pool.peer}: {problem.problems[0].path}") from None
        return await self._dialer.dial(origin, pool.context, lambda: Connection(self._loop, pool), left)

    def keep(self, connection: Connection, idle: int) -> bool:
        """Whether one more connection may lie idle beside `idle` others; starts its idle time."""
        if self._closed or idle >= self._max_idle:
            return False
        self.idle += 1
        connection.watch(self._loop.time() + self._idle_timeout if self._idle_timeout else None)
        return True

    def tidy(self, pool: Pool) -> None:
        """Forget `pool` when nothing is left of it."""
        if not pool.members and self._pools.get(pool.key) is pool:
            del self._pools[pool.key]
        if self._ended is not None and not self.open and not self._ended.done():
            self._ended.set_result(None)

    async def aclose(self) -> None:
        """Cut every connection and wait for the transports to end, `CLOSING` seconds at most."""
        self._closed = True
        if not self.open:
            return
        self._ended = self._loop.create_future()
        for connection in tuple(self.open):
            connection.cut()
        try:
            async with asyncio.timeout(CLOSING):
                await self._ended
        except TimeoutError:
            pass  # the sockets are cut; only the loop has not said so yet
