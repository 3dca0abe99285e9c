"""A TCP proxy that fails on command: refuses, resets, goes silent, heals. Runs in the test's own event loop.

async with CutProxy(server.port) as link:
    link.port, link.endpoint            # connect here
    await link.refuse()                 # no listener: new connections are refused; the old ones are reset
    link.cut()                          # reset (RST) every connection; new ones are accepted
    link.cut_after(100_000)             # reset the connection once that many bytes came from the server, once
    link.black_hole()                   # nothing passes, nothing closes, also on new connections: a dropped NAT entry
    await link.heal()                   # everything passes again; silenced connections stay dead unless told otherwise
"""

import asyncio
import socket
import struct
from types import TracebackType
from typing import Self

_LINGER_ZERO = struct.pack("ii", 1, 0)
_CHUNK = 64 * 1024


class CutProxy:
    """Forwards a loopback port of its own to `port` on loopback."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._silent = False
        self._budget: int | None = None
        self.port = 0
        self.accepted = 0
        """Connections accepted so far."""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.refuse()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    async def refuse(self) -> None:
        """Close the listener and reset what is open."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()
        await asyncio.sleep(0)

    def cut(self) -> None:
        """Reset every open connection."""
        for link in tuple(self._links):
            link.reset()
        self._links.clear()

    def cut_after(self, count: int) -> None:
        """Reset the connections after `count` more bytes from the server."""
        self._budget = count

    @property
    def cut_pending(self) -> bool:
        """Whether `cut_after` has not struck yet."""
        return self._budget is not None

    def black_hole(self) -> None:
        """From now on nothing passes in either direction."""
        self._silent = True
        for link in self._links:
            link.silence()

    def mute(self) -> None:
        """From now on nothing passes from the server on the connections that are open."""
        for link in self._links:
            link.silence(upward=False)

    async def heal(self, *, revive: bool = False) -> None:
        """Listen and forward again. With `revive`, silenced connections go on where they stopped."""
        self._silent = False
        if revive:
            for link in self._links:
                link.revive()
        if self._server is None:
            await self._listen()

    def spend(self, count: int) -> bool:
        """Whether `count` bytes from the server may still pass; cuts when not."""
        if self._budget is None:
            return True
        self._budget -= count
        if self._budget > 0:
            return True
        self._budget = None
        self.cut()
        return False

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=_CHUNK)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            away = await asyncio.open_connection("127.0.0.1", self._target, limit=_CHUNK)
        except OSError:
            _reset(writer)
            return
        if self._server is None:  # refused meanwhile
            _reset(writer)
            _reset(away[1])
            return
        link = _Link(self, writer, away[1])
        if self._silent:
            link.silence()
        self._links.add(link)
        try:
            await asyncio.gather(link.pump(reader, away[1], upward=True), link.pump(away[0], writer, upward=False))
        except OSError:
            pass
        finally:
            link.reset()
            self._links.discard(link)


class _Link:
    """One forwarded connection."""

    def __init__(self, proxy: CutProxy, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._ends = (near, far)
        self._open = {True: asyncio.Event(), False: asyncio.Event()}
        """By direction: is it upward (to the server)?"""
        self.revive()

    def silence(self, *, upward: bool = True) -> None:
        """Stop both directions, or only the one from the server."""
        self._open[False].clear()
        if upward:
            self._open[True].clear()

    def revive(self) -> None:
        for direction in self._open.values():
            direction.set()

    def reset(self) -> None:
        self.revive()
        for writer in self._ends:
            _reset(writer)

    async def pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, upward: bool) -> None:
        while data := await source.read(_CHUNK):
            await self._open[upward].wait()
            if sink.is_closing() or (not upward and not self._proxy.spend(len(data))):
                return
            sink.write(data)
            await sink.drain()
        await self._open[upward].wait()
        sink.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    plain = writer.get_extra_info("socket")
    if plain is not None and plain.fileno() >= 0:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    writer.transport.abort()
