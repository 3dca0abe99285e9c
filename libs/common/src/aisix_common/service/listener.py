"""A listener as a value, and how it becomes an open socket: bound early and clearly refused, TLS from files."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..settings import Address, ListenerTls


class Connections(Protocol):
    """What makes and closes the connections of a listener; `aiohttp.web.Server` and `AppRunner.server` are such."""

    def __call__(self) -> asyncio.BaseProtocol:
        """A protocol for one accepted connection."""
        ...

    @property
    def connections(self) -> Sequence[object]:
        """The connections that are open."""
        ...

    def pre_shutdown(self) -> None:
        """Close idle connections now, and every other one after the answer it is working on."""
        ...

    async def shutdown(self, timeout: float | None = None) -> None:
        """Give answers under way `timeout` seconds, then close everything."""
        ...


@dataclass(frozen=True, slots=True)
class Listener:
    """One address that is listened on."""

    name: str
    """What it is called in logs: `proxy`, `admin`, `metrics`."""
    setting: str
    """The setting its address came from, for messages: `proxy.addr`."""
    address: Address
    make: Callable[[], Connections]
    """Makes what serves its connections; called once, in the loop, after the address was bound."""
    tls: ListenerTls | None = None
    """Serve TLS with these files; errors name `<name>.tls`."""
    shared: bool = False
    """Worker processes listen on the address together (SO_REUSEPORT); every worker serves it the same."""
    behind: Callable[[], Connections] | None = None
    """What a worker process serves on its private socket instead, for its parent to aggregate. Without it a listener
    that is not `shared` is not opened in workers."""
