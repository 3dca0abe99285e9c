"""Connections of the admin listener; what cannot be parsed is tried in api/test_edge.py."""

import asyncio

from tests.support.admin import ADMIN_KEY, RunningAdmin


async def test_a_connection_is_used_again_and_closed_on_shutdown(admin: RunningAdmin) -> None:
    host, port = admin.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    request = f"GET /admin/v1/models HTTP/1.1\r\nHost: x\r\nx-api-key: {ADMIN_KEY}\r\n\r\n".encode()
    async with asyncio.timeout(10):
        for _ in range(2):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200") and b"Content-Length: 2" in head
            assert await reader.readexactly(2) == b"[]"
        writer.write(b"nonsense\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 400 " in head and b"x-aisix-request-id" in head
        await reader.read()
    writer.close()


async def test_the_front_counts_and_closes_its_connections(admin: RunningAdmin) -> None:
    host, port = admin.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    async with asyncio.timeout(10):
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"ok")
        assert len(admin.front.connections) >= 1
        admin.front.pre_shutdown()
        await admin.front.shutdown(1)
        assert await reader.read() == b""
        assert len(admin.front.connections) == 0
    writer.close()
