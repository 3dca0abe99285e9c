"""A scripted upstream: a real server on loopback that plays a dialogue with whoever connects.

    play = Playbook(
        [Expect("POST", "/v1/chat/completions"), Answer(200, b"{}"), Expect(), Reset()],  # first connection
        [Expect(), Answer(200, b"again")],  # second connection
    )
    async with play.on_stage() as upstream:
        ... talk to upstream.origin ...
    # leaving the block checks that every expectation held

It knows HTTP only as far as reading a request goes; it says exactly the bytes of the script. A connection beyond
the script is closed at once and reported. Waiting is done on the loop's clock, so `looptime` may own it.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeAlias

from aisix_proxy.canonical.http import Origin


@dataclass(frozen=True)
class Expect:
    """Read one whole request; a method or path that differs is a failed expectation."""

    method: str | None = None
    path: str | None = None
    body: bytes | None = None


@dataclass(frozen=True)
class Hear:
    """Read so many bytes and leave the rest of the request unread."""

    count: int


@dataclass(frozen=True)
class Send:
    """Send these very bytes; `times` None: for as long as they are taken."""

    data: bytes
    times: int | None = 1


@dataclass(frozen=True)
class Answer:
    """Send a well-formed answer with Content-Length."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Head:
    """Send the head of a chunked answer; `Chunk` and `End` go on from there."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "text/event-stream"})


@dataclass(frozen=True)
class Chunk:
    """Send one chunk."""

    data: bytes


@dataclass(frozen=True)
class End:
    """Send the last chunk."""


@dataclass(frozen=True)
class Stall:
    """Say nothing for so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Until:
    """Wait for a signal of the test."""

    event: asyncio.Event


@dataclass(frozen=True)
class Gone:
    """Wait until the other side has closed or reset the connection (it must not send anything)."""


@dataclass(frozen=True)
class Close:
    """End the connection in an orderly way."""


@dataclass(frozen=True)
class Reset:
    """Break the connection: the other side sees a reset."""


Line: TypeAlias = Expect | Hear | Send | Answer | Head | Chunk | End | Stall | Until | Gone | Close | Reset


@dataclass(frozen=True)
class Received:
    """One request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    """Lower-case names."""
    body: bytes
    raw_head: bytes


@dataclass
class Upstream:
    """What a test sees of the play."""

    origin: Origin
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    failures: list[str] = field(default_factory=list)
    sent: int = 0
    """Bytes handed to the sockets."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when every scripted connection has played its last line."""


class Playbook:
    """Dialogues, one for each connection in the order they come. `forever=True` repeats the last one."""

    def __init__(self, *dialogues: Sequence[Line], forever: bool = False) -> None:
        self._dialogues = dialogues
        self._forever = forever

    @asynccontextmanager
    async def on_stage(
        self, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", name: str | None = None
    ) -> AsyncIterator[Upstream]:
        """Serve the play. `name`: the host name that `origin` shows instead of the address."""
        players: set[asyncio.Task[None]] = set()
        upstream = Upstream(Origin("http", "", 0))

        async def player(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            players.add(task)
            number, upstream.connections = upstream.connections, upstream.connections + 1
            try:
                await _Actor(upstream, reader, writer).play(self._dialogue(number, upstream))
            except asyncio.CancelledError:
                pass  # the play is over
            finally:
                players.discard(task)
                if number + 1 >= len(self._dialogues) and not players:
                    upstream.over.set()

        server = await asyncio.start_server(player, host, 0, ssl=tls, limit=1 << 24)
        port = server.sockets[0].getsockname()[1]
        upstream.origin = Origin("http" if tls is None else "https", name or host, port)
        try:
            yield upstream
        finally:
            server.close()
            for task in list(players):
                task.cancel()
            await asyncio.gather(*players, return_exceptions=True)
        assert not upstream.failures, "\n".join(upstream.failures)

    def _dialogue(self, number: int, upstream: Upstream) -> Sequence[Line]:
        if number < len(self._dialogues):
            return self._dialogues[number]
        if self._forever and self._dialogues:
            return self._dialogues[-1]
        upstream.failures.append(f"connection {number + 1} is not in the script")
        return ()


class _Actor:
    """Plays one dialogue on one connection."""

    def __init__(self, upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._upstream = upstream
        self._reader = reader
        self._writer = writer

    async def play(self, dialogue: Sequence[Line]) -> None:
        try:
            for line in dialogue:
                await self._play(line)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the other side left; whether it may have is for the test to say
        except _Surprised as surprise:
            self._upstream.failures.append(str(surprise))
        finally:
            self._writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await self._writer.wait_closed()

    async def _play(self, line: Line) -> None:
        match line:
            case Expect():
                await self._expect(line)
            case Hear(count):
                await self._reader.readexactly(count)
            case Send(data, times):
                await self._send(data, times)
            case Answer(status, body, headers):
                await self._send(_head(status, {**headers, "Content-Length": str(len(body))}) + body)
            case Head(status, headers):
                await self._send(_head(status, {**headers, "Transfer-Encoding": "chunked"}))
            case Chunk(data):
                await self._send(b"%x\r\n%b\r\n" % (len(data), data))
            case End():
                await self._send(b"0\r\n\r\n")
            case Stall(seconds):
                await asyncio.sleep(seconds)
            case Until(event):
                await event.wait()
            case Gone():
                if await self._reader.read(1):
                    raise _Surprised("expected the other side to leave, and it spoke")
            case Close():
                self._writer.close()
            case Reset():
                sock = self._writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._writer.transport.abort()

    async def _send(self, data: bytes, times: int | None = 1) -> None:
        while times is None or times > 0:
            self._writer.write(data)
            await self._writer.drain()
            self._upstream.sent += len(data)
            if times is not None:
                times -= 1

    async def _expect(self, wanted: Expect) -> None:
        raw = await self._reader.readuntil(b"\r\n\r\n")
        first, *rest = raw.decode("latin-1").split("\r\n")[:-2]
        method, path, _ = first.split(" ", 2)
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in rest)}
        body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        self._upstream.requests.append(Received(method, path, headers, body, raw))
        for what, is_, should in (("method", method, wanted.method), ("path", path, wanted.path)):
            if should is not None and is_ != should:
                raise _Surprised(f"expected the {what} {should!r}, heard {is_!r}")
        if wanted.body is not None and body != wanted.body:
            raise _Surprised(f"expected the body {wanted.body!r}, heard {body!r}")


class _Surprised(Exception):
    """The other side left the script."""


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()
