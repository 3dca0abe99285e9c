"""HTTP/1.1 by hand, for tests that must send what no client library would, and see every byte of the answer."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

SECONDS = 5.0


@dataclass(frozen=True)
class Response:
    """One answer; header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        return dict(self.json["error"])


class Connection:
    """One connection. Everything read has a deadline."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> tuple[int, dict[str, str]]:
        async with asyncio.timeout(SECONDS):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (x.partition(":") for x in lines[1:] if x)}
        return int(lines[0].split()[1]), headers

    async def response(self, *, head_only: bool = False) -> Response:
        status, headers = await self.head()
        if head_only:
            return Response(status, headers, b"")
        async with asyncio.timeout(SECONDS):
            if headers.get("transfer-encoding") == "chunked":
                return Response(status, headers, await self._chunked())
            if "content-length" in headers:
                return Response(status, headers, await self.reader.readexactly(int(headers["content-length"])))
            return Response(status, headers, await self.reader.read())

    async def chunk(self) -> bytes:
        """One chunk; b"" is the last."""
        async with asyncio.timeout(SECONDS):
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            data = await self.reader.readexactly(size)
            await self.reader.readexactly(2)
            return data

    async def _chunked(self) -> bytes:
        pieces = []
        while piece := await self.chunk():
            pieces.append(piece)
        return b"".join(pieces)

    async def closed(self) -> bool:
        """Whether the other side ends the connection, in time and with nothing more to say."""
        try:
            async with asyncio.timeout(SECONDS):
                return await self.reader.read(1) == b""
        except ConnectionError:
            return True

    def abort(self) -> None:
        """Vanish: the other side gets a reset, not the polite end that `writer.close` and `write_eof` send."""
        raw: socket.socket = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@asynccontextmanager
async def connect(port: int) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()


def request(
    method: str = "POST",
    path: str = "/v1/chat/completions",
    *,
    key: str | None = None,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    version: str = "1.1",
) -> bytes:
    """A well-formed request; `body` bytes or a JSON value."""
    lines = [f"{method} {path} HTTP/{version}", "Host: gateway"]
    raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    if body is not None:
        given = {name.lower() for name in headers or {}}
        if "content-type" not in given:
            lines.append("Content-Type: application/json")
        if "transfer-encoding" not in given:
            lines.append(f"Content-Length: {len(raw)}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + raw


async def ask(port: int, data: bytes, *, head_only: bool = False) -> Response:
    """One request on a connection of its own."""
    async with connect(port) as connection:
        connection.send(data)
        return await connection.response(head_only=head_only)
