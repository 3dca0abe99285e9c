"""Bodies that do not come as they should: the framing, the encoding, the expectations, the clients that leave."""

import asyncio
import gzip

import pytest
from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.streams import StreamReader
from aiohttp.test_utils import make_mocked_request

from aisix_admin.api.intake import read_body, require_plain
from aisix_admin.errors import BrokenBody, HungUp, WrongMediaType

from tests.support.admin import ADMIN_KEY, RunningAdmin

HEAD = (
    f"POST /admin/v1/provider_keys HTTP/1.1\r\nHost: x\r\nx-api-key: {ADMIN_KEY}\r\nContent-Type: application/json\r\n"
)
DOCUMENT = b'{"display_name":"m","api_key":"k"}'
LENGTH = f"Content-Length: {len(DOCUMENT)}\r\n"


async def connected(admin: RunningAdmin) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = admin.url.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port))


async def counted(admin: RunningAdmin, series: str) -> None:
    async with asyncio.timeout(10):
        while series not in admin.scraped:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("encodings", "plain"),
    [
        ([], True),
        (["identity"], True),
        ([" Identity , identity", ""], True),
        (["gzip"], False),
        (["identity, br"], False),
        (["identity", "x"], False),
    ],
)
def test_encodings(encodings: list[str], plain: bool) -> None:
    if plain:
        require_plain(encodings)
    else:
        with pytest.raises(WrongMediaType):
            require_plain(encodings)


@pytest.mark.parametrize(
    ("head", "body", "status"),
    [
        (HEAD + "Content-Encoding: gzip\r\nContent-Length: 9\r\n", b"no gzip!!", 415),
        (
            HEAD + f"Content-Encoding: gzip\r\nContent-Length: {len(gzip.compress(b'{}'))}\r\n",
            gzip.compress(b"{}", mtime=0),
            415,
        ),
        (HEAD + "Content-Encoding: canary\r\nContent-Length: 2\r\n", b"{}", 415),
        (HEAD + "Transfer-Encoding: chunked\r\n", b"canary\r\n{}\r\n", 400),
        (HEAD + "Transfer-Encoding: chunked\r\n", b"1\r\n{}\r\n0\r\n\r\n", 400),
        (HEAD + "Expect: canary\r\n" + LENGTH, DOCUMENT, 417),
        ("GET /canary HTTP/1.1\r\nHost: x\r\nExpect: canary\r\n", b"", 417),
        ("LOCK /admin/v1/provider_keys HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nExpect: canary\r\n", b"", 417),
        (HEAD.replace("HTTP/1.1", "HTTP/1.0") + "Expect: canary\r\n" + LENGTH, DOCUMENT, 200),
    ],
)
async def test_what_is_answered(
    admin: RunningAdmin, caplog: pytest.LogCaptureFixture, head: str, body: bytes, status: int
) -> None:
    reader, writer = await connected(admin)
    async with asyncio.timeout(10):
        writer.write(head.encode() + b"\r\n")
        await writer.drain()
        writer.write(body)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert f" {status} ".encode() in answer.split(b"\r\n")[0]
        assert b"Server: AISIX/" in answer and b"x-aisix-request-id" in answer
        writer.write_eof()
        rest = await reader.read()
    writer.close()
    assert b"error_msg" in rest or status == 200
    assert b"canary" not in answer + rest
    assert "Traceback" not in caplog.text and "unexpected error" not in admin.logged


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        (web.RequestPayloadError("canary"), BrokenBody),
        (ConnectionResetError("canary"), HungUp),
        (OSError("canary"), HungUp),
    ],
)
async def test_what_ends_a_body(trouble: Exception, error: type[Exception]) -> None:
    loop = asyncio.get_running_loop()
    payload = StreamReader(BaseProtocol(loop), 1024, loop=loop)
    payload.set_exception(trouble)
    request = make_mocked_request("POST", "/", headers={"Content-Type": "application/json"}, payload=payload)
    with pytest.raises(error, match="body") as raised:
        await read_body(request, 5)
    assert "canary" not in str(raised.value)


@pytest.mark.parametrize("key", [ADMIN_KEY, "wrong"])
async def test_only_who_is_let_in_is_told_to_go_on(admin: RunningAdmin, key: str) -> None:
    reader, writer = await connected(admin)
    async with asyncio.timeout(10):
        writer.write((HEAD.replace(ADMIN_KEY, key) + "Expect: 100-Continue\r\n" + LENGTH + "\r\n").encode())
        first = await reader.readuntil(b"\r\n\r\n")
        if key != ADMIN_KEY:
            assert first.startswith(b"HTTP/1.1 401 ")
        else:
            assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(DOCUMENT)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_a_client_that_leaves_is_no_error_of_ours(admin: RunningAdmin) -> None:
    _, writer = await connected(admin)
    writer.write((HEAD + LENGTH + "\r\n").encode() + DOCUMENT[:9])
    await writer.drain()
    async with asyncio.timeout(10):
        while not admin.front.connections:
            await asyncio.sleep(0.01)
    writer.transport.abort()
    await counted(admin, 'aisix_admin_requests_total{method="POST",route="/admin/v1/provider_keys",status="499"} 1.0')
    assert {line["log_level"] for line in admin.lines.entries} <= {"info", "debug"}, admin.logged
