"""The one port of the Cloud: looks at the ClientHello's ALPN and passes the raw TLS on, `h2` to etcd and all else to
the HTTP app. It terminates nothing. And it fails on command, as a whole or on one lane:

    await front.refuse()              # nobody listens; what is open is reset
    front.silence(Lane.ETCD)          # a dropped NAT entry: nothing passes, nothing closes; new connections, too
    front.reset(Lane.APP)             # what is open, and every new connection, is reset
    front.garble()                    # new connections are answered with bytes that are no TLS; the open ones are reset
    front.slow(0.5, Lane.APP)         # whatever the Cloud says arrives that many seconds late
    front.cut(Lane.ETCD)              # what is open is reset, once
    await front.heal()                # all is well for new connections; silenced ones stay dead
"""

import asyncio
import errno
import socket
import struct
from dataclasses import dataclass
from enum import Enum
from typing import Final

from .client_hello import LONGEST, NotTls, offered

HELLO_SECONDS: Final = 10.0
LISTEN_SECONDS: Final = 5.0
GARBAGE: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n<html>sorry :(</html>"
_LINGER_ZERO: Final = struct.pack("ii", 1, 0)
_CHUNK: Final = 64 * 1024


class Lane(Enum):
    """What a connection is for."""

    ETCD = "etcd"
    APP = "app"


class Mood(Enum):
    """How a lane behaves."""

    WELL = "well"
    SILENT = "silent"
    RESETS = "resets"
    GARBLES = "garbles"


@dataclass(slots=True)
class _Road:
    """Where a lane leads, and how it behaves."""

    port: int
    mood: Mood = Mood.WELL
    delay: float = 0.0


class Front:
    """Listens on loopback at `port` (0: any; the attribute tells which) and leads to the two ports behind."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.accepted = dict.fromkeys(Lane, 0)
        """Connections so far, by what they asked for."""
        self._roads = {lane: _Road(0) for lane in Lane}
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, *, etcd: int, app: int) -> None:
        """Start to listen. The arguments are the ports behind."""
        self._roads[Lane.ETCD].port, self._roads[Lane.APP].port = etcd, app
        await self._listen()

    async def close(self) -> None:
        """End everything."""
        await self.refuse()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    def lead(self, lane: Lane, port: int) -> None:
        """The lane ends at another port from now on."""
        self._roads[lane].port = port

    async def refuse(self) -> None:
        """Close the listener and reset what is open."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()
        for task in self._tasks:  # those that have not said yet what they are for
            if not any(link.task is task for link in self._links):
                task.cancel()
        await asyncio.sleep(0)

    def cut(self, *lanes: Lane) -> None:
        """Reset the open connections of these lanes; of all if none is named."""
        for link in tuple(self._links):
            if not lanes or link.lane in lanes:
                link.reset()
                self._links.discard(link)

    def silence(self, *lanes: Lane) -> None:
        """From now on nothing passes in either direction."""
        self._feel(Mood.SILENT, lanes)
        for link in self._links:
            if not lanes or link.lane in lanes:
                link.silent = True

    def reset(self, *lanes: Lane) -> None:
        """From now on every connection is reset."""
        self._feel(Mood.RESETS, lanes)
        self.cut(*lanes)

    def garble(self, *lanes: Lane) -> None:
        """From now on connections are answered with garbage."""
        self._feel(Mood.GARBLES, lanes)
        self.cut(*lanes)

    def slow(self, seconds: float, *lanes: Lane) -> None:
        """From now on what the Cloud says arrives `seconds` late."""
        for lane in lanes or tuple(Lane):
            self._roads[lane].delay = seconds

    async def heal(self) -> None:
        """Listen and pass everything on again."""
        self._feel(Mood.WELL, ())
        self.slow(0.0)
        if self._server is None:
            await self._listen()

    def _feel(self, mood: Mood, lanes: tuple[Lane, ...]) -> None:
        for lane in lanes or tuple(Lane):
            self._roads[lane].mood = mood

    async def _listen(self) -> None:
        until = asyncio.get_running_loop().time() + LISTEN_SECONDS
        while self._server is None:
            try:
                self._server = await asyncio.start_server(
                    self._accept, "127.0.0.1", self.port, limit=_CHUNK, backlog=512
                )
            except OSError as error:  # somebody's outgoing connection may have the port for a moment
                if error.errno != errno.EADDRINUSE or asyncio.get_running_loop().time() > until:
                    raise
                await asyncio.sleep(0.05)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                hello, lane = await _asked(reader)
            self.accepted[lane] += 1
            road = self._roads[lane]
            if road.mood in (Mood.RESETS, Mood.GARBLES):
                if road.mood is Mood.GARBLES:
                    writer.write(GARBAGE)
                    await writer.drain()
                    writer.close()
                else:
                    _reset(writer)
                return
            far = await asyncio.open_connection("127.0.0.1", road.port, limit=_CHUNK)
        except (OSError, NotTls, TimeoutError):
            _reset(writer)
            return
        except asyncio.CancelledError:
            _reset(writer)
            raise
        if self._server is None:  # refused meanwhile
            _reset(writer)
            _reset(far[1])
            return
        await self._carry(_Link(lane, road, writer, far[1], task), reader, far[0], hello)

    async def _carry(
        self, link: "_Link", reader: asyncio.StreamReader, back: asyncio.StreamReader, hello: bytes
    ) -> None:
        self._links.add(link)
        try:
            link.up(hello)
            await asyncio.gather(link.pump_up(reader), link.pump_down(back))
        except OSError:
            pass
        finally:
            link.reset()
            self._links.discard(link)


class _Link:
    """One connection that is passed on."""

    def __init__(
        self,
        lane: Lane,
        road: _Road,
        near: asyncio.StreamWriter,
        far: asyncio.StreamWriter,
        task: "asyncio.Task[None]",
    ) -> None:
        self.lane = lane
        self.task = task
        self.silent = road.mood is Mood.SILENT
        self._road = road
        self._near, self._far = near, far

    def up(self, data: bytes) -> None:
        if not self.silent:
            self._far.write(data)

    async def pump_up(self, source: asyncio.StreamReader) -> None:
        while data := await source.read(_CHUNK):
            self.up(data)
            await self._far.drain()
        self._far.close()

    async def pump_down(self, source: asyncio.StreamReader) -> None:
        while data := await source.read(_CHUNK):
            if self._road.delay:
                await asyncio.sleep(self._road.delay)
            if not self.silent:
                self._near.write(data)
                await self._near.drain()
        if not self.silent:  # what is silent does not say that it has ended, either
            self._near.close()

    def reset(self) -> None:
        for writer in (self._near, self._far):
            _reset(writer)


async def _asked(reader: asyncio.StreamReader) -> tuple[bytes, Lane]:
    """The first bytes of a connection, and what it is for. Raises NotTls, ConnectionError."""
    data = b""
    while (names := offered(data)) is None:
        more = await reader.read(_CHUNK)
        if not more or len(data) > LONGEST:
            raise NotTls
        data += more
    return data, Lane.ETCD if "h2" in names else Lane.APP


def _reset(writer: asyncio.StreamWriter) -> None:
    plain = writer.get_extra_info("socket")
    if plain is not None and plain.fileno() >= 0 and not writer.is_closing():
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    writer.transport.abort()
