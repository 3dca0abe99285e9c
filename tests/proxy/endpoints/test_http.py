"""The stand-in for aiohttp's request and response: framing, deadlines, and what aiohttp asks of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp.web_protocol import RequestHandler

from aisix_common.service import Lifecycle
from aisix_proxy.canonical.errors import BadRequest, GatewayError
from aisix_proxy.endpoints._http import Front, HttpRequest, SlowBody
from aisix_proxy.endpoints._server import (
    HALF_CLOSE_SECONDS,
    HEAD_SECONDS,
    LINGER_SECONDS,
    PIPELINED_BYTES,
    EdgeServer,
)
from aisix_proxy.pipeline.deliver import STALL_SECONDS

from tests.support.builders import until
from tests.support.raw_http import Connection, connect, request

Handler = Callable[[HttpRequest], Awaitable[None]]


@asynccontextmanager
async def handled_by(handler: Handler, *, limit: int = 0, idle: float = 0) -> AsyncIterator[Connection]:
    """A connection to a server whose every request is handled by `handler`."""

    async def handle(req: HttpRequest) -> HttpRequest:
        await handler(req)
        return req

    def show(req: HttpRequest, error: GatewayError) -> None:
        req.send(error.status, b"", error.message.encode())

    front = Front(Lifecycle(), body_limit=limit)
    server = EdgeServer(handle, front, show, idle_seconds=idle)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    try:
        async with connect(listening.sockets[0].getsockname()[1]) as connection:
            yield connection
    finally:
        listening.close()
        await server.shutdown(1.0)


async def test_a_body_is_read_whole() -> None:
    bodies: list[bytes] = []

    async def handler(req: HttpRequest) -> None:
        bodies.append(await req.read_body())
        req.send(200, b"", b"%d" % len(bodies[-1]))

    async with handled_by(handler) as connection:
        for body in (b"", b"x", b"y" * 3_000_000):
            connection.send(request(body=body))
            assert (await connection.response()).body == b"%d" % len(body)
        connection.send(
            request(body=b"", headers={"Transfer-Encoding": "chunked"}) + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        )
        assert (await connection.response()).body == b"5"
    assert bodies[-1] == b"abcde"


@pytest.mark.parametrize(("version", "keeps"), [("1.1", None), ("1.0", "keep-alive")])
async def test_keep_alive(version: str, keeps: str | None) -> None:
    async def handler(req: HttpRequest) -> None:
        req.send(200, b"", b"ok")

    async with handled_by(handler) as connection:
        for _ in range(2):
            connection.send(request("GET", "/", headers={"Connection": "keep-alive"}, version=version))
            assert (await connection.response()).headers.get("connection") == keeps
        connection.send(request("GET", "/", headers={"Connection": "close"}, version=version))
        assert (await connection.response()).headers["connection"] == "close"
        assert await connection.closed()


async def test_a_large_answer_arrives_whole() -> None:
    async def handler(req: HttpRequest) -> None:
        req.send(200, b"", b"z" * 1_000_000)

    async with handled_by(handler) as connection:
        connection.send(request("GET", "/"))
        assert len((await connection.response()).body) == 1_000_000


async def test_a_stream_is_chunked() -> None:
    async def handler(req: HttpRequest) -> None:
        req.begin(200, b"X: y\r\n")
        req.write(b"one")
        req.write(b"two")
        req.finish()

    async with handled_by(handler) as connection:
        for _ in range(2):
            connection.send(request("GET", "/"))
            answer = await connection.response()
            assert (answer.headers["x"], answer.body) == ("y", b"onetwo")


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_the_head_of_a_stream_waits_for_its_first_bytes_or_a_push(version: str) -> None:
    go = asyncio.Event()

    async def handler(req: HttpRequest) -> None:
        req.begin(200, b"X: y\r\n")
        if req.target == "/push":
            req.push()
            req.push()
            await go.wait()
        req.finish(b"" if req.target == "/empty" else b"all")

    for target, body in (("/push", b"all"), ("/whole", b"all"), ("/empty", b"")):
        async with handled_by(handler) as connection:
            connection.send(request("GET", target, version=version))
            if target == "/push":
                status, _ = await connection.head()
                assert status == 200
                go.set()
            else:
                answer = await connection.response()
                assert (answer.headers["x"], answer.body) == ("y", body)


async def test_writing_to_a_caller_that_is_gone_says_so() -> None:
    seen: asyncio.Future[type[BaseException]] = asyncio.get_running_loop().create_future()

    async def handler(req: HttpRequest) -> None:
        req.abort()
        try:
            req.send(200, b"", b"x")
        except ConnectionError as error:
            seen.set_result(type(error))

    async with handled_by(handler) as connection:
        connection.send(request("GET", "/"))
        assert issubclass(await asyncio.wait_for(seen, 5), ConnectionError)


@pytest.mark.parametrize(
    ("status", "phrase"), [(200, b"OK"), (499, b"Client Error"), (430, b"Client Error"), (599, b"Server Error")]
)
async def test_every_status_has_a_phrase(status: int, phrase: bytes) -> None:
    async def handler(req: HttpRequest) -> None:
        req.send(status, b"", b"told")

    async with handled_by(handler) as connection:
        connection.send(request("GET", "/"))
        assert (await connection.reader.readline()).strip() == b"HTTP/1.1 %d %b" % (status, phrase)


async def test_a_status_that_is_none_is_a_mistake_of_ours_and_the_caller_is_told() -> None:
    async def handler(req: HttpRequest) -> None:
        req.send(777, b"", b"")

    async with handled_by(handler) as connection:
        connection.send(request("GET", "/"))
        assert (await connection.response()).status == 500


async def test_an_early_answer_to_a_body_that_was_not_asked_for_ends_the_connection() -> None:
    async def handler(req: HttpRequest) -> None:
        if req.target == "/read":
            await req.read_body()
        req.send(401, b"", b"")

    for path, closes in (("/read", False), ("/early", True)):
        async with handled_by(handler) as connection:
            whole = request("POST", path, body=b"x" * 10, headers={"Expect": "100-continue"})
            connection.send(whole[:-10])
            if not closes:
                assert (await connection.head())[0] == 100
                connection.send(whole[-10:])
            assert ((await connection.response()).headers.get("connection") == "close") == closes


@pytest.mark.looptime
async def test_a_body_that_does_not_come_is_given_up() -> None:
    caught: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def handler(req: HttpRequest) -> None:
        try:
            await req.read_body()
        except SlowBody as error:
            caught.set_result(error.status)
            req.send(408, b"", b"")

    async with handled_by(handler) as connection:
        connection.send(request(body=b"x" * 100)[:-50])
        assert await caught == 408


@pytest.mark.looptime
async def test_an_idle_connection_is_closed_where_configured() -> None:
    async def handler(req: HttpRequest) -> None:
        req.send(200, b"", b"")

    async with handled_by(handler, idle=3) as connection:
        assert await connection.closed()


@pytest.mark.parametrize("reset", [True, False])
async def test_a_vanished_caller_cancels_its_handler(reset: bool) -> None:
    loop = asyncio.get_running_loop()
    started, ended = loop.create_future(), loop.create_future()

    async def handler(req: HttpRequest) -> None:
        started.set_result(None)
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            ended.set_result(None)
            raise

    async with handled_by(handler) as connection:
        connection.send(request("GET", "/"))
        await asyncio.wait_for(started, 5)
        if reset:
            connection.abort()
        else:
            await asyncio.sleep(2 * HALF_CLOSE_SECONDS)
            connection.writer.close()
        await asyncio.wait_for(ended, 5)


async def test_a_handler_that_fails_is_an_empty_handed_500() -> None:
    async def handler(req: HttpRequest) -> None:
        raise ValueError("sk-secret")

    async with handled_by(handler) as connection:
        connection.send(request("GET", "/"))
        answer = await connection.response()
    assert answer.status == 500
    assert b"sk-secret" not in answer.body


async def test_the_peer_is_known() -> None:
    async def handler(req: HttpRequest) -> None:
        req.send(200, b"", req.peer.encode())

    async with handled_by(handler) as connection:
        connection.send(request("GET", "/"))
        assert (await connection.response()).body == b"127.0.0.1"


async def test_an_unread_body_does_not_disturb_the_next_request() -> None:
    async def handler(req: HttpRequest) -> None:
        req.send(200, b"", req.target.encode())

    async with handled_by(handler) as connection:
        first = request("POST", "/first", body=b"x" * 1_000_000)
        connection.send(first[:-500_000])
        assert (await connection.response()).body == b"/first"
        connection.send(first[-500_000:] + request("GET", "/second"))
        assert (await connection.response()).body == b"/second"


@pytest.mark.looptime
async def test_an_unread_body_is_not_waited_for_without_end() -> None:
    async def handler(req: HttpRequest) -> None:
        req.send(200, b"", b"ok")

    async with handled_by(handler) as connection:
        connection.send(request(body=b"x" * 100)[:-50])
        assert (await connection.response()).body == b"ok"
        await asyncio.sleep(LINGER_SECONDS)
        assert await connection.closed()


async def echo(req: HttpRequest) -> None:
    await asyncio.sleep(0)
    req.send(200, b"", req.target.encode())


async def test_requests_behind_each_other_are_answered() -> None:
    async with handled_by(echo) as connection:
        connection.send(b"".join(request("GET", f"/{n}") for n in range(100)))
        for n in range(100):
            assert (await connection.response()).body == b"/%d" % n


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
@pytest.mark.parametrize("body", [None, b"x" * 10])
async def test_a_declined_upgrade_ends_the_connection(protocol: str, body: bytes | None) -> None:
    async with handled_by(echo) as connection:
        upgrade = {"Connection": "Upgrade", "Upgrade": protocol}
        connection.send(request("POST", "/0", body=body, headers=upgrade) + request("GET", "/1"))
        answer = await connection.response()
        assert (answer.body, answer.headers["connection"]) == (b"/0", "close")
        assert await connection.closed()


async def test_a_caller_that_ends_its_side_gets_its_answers() -> None:
    async def handler(req: HttpRequest) -> None:
        await asyncio.sleep(0.02)
        req.send(200, b"", req.target.encode())

    async with handled_by(handler) as connection:
        connection.send(b"".join(request("POST", f"/{n}", body=b"x") for n in range(3)))
        connection.writer.write_eof()
        for n in range(3):
            assert (await connection.response()).body == b"/%d" % n
        assert await connection.closed()


@pytest.mark.parametrize("sent", [b"", b"GET / HT", request(body=b"x" * 10)[:-5]])
async def test_a_caller_that_ends_its_side_too_early_gets_none(sent: bytes) -> None:
    async def handler(req: HttpRequest) -> None:
        await req.read_body()
        req.send(200, b"", b"")

    async with handled_by(handler) as connection:
        connection.send(sent)
        connection.writer.write_eof()
        assert await connection.closed()


@pytest.mark.looptime
@pytest.mark.parametrize("before", [b"", request("GET", "/")])
@pytest.mark.parametrize("idle", [0, 3])
async def test_a_head_that_does_not_come_is_given_up(before: bytes, idle: float) -> None:
    loop = asyncio.get_running_loop()
    async with handled_by(echo, idle=idle) as connection:
        if before:
            connection.send(before)
            await connection.response()
        begun = loop.time()
        for byte in b"GET / HTTP/1.1\r\nX: abcde":
            connection.send(bytes([byte]))
            await asyncio.sleep(1)
        assert not connection.reader.at_eof()
        await asyncio.sleep(begun + HEAD_SECONDS - 1 - loop.time())
        assert not connection.reader.at_eof()
        assert await connection.closed()


@pytest.mark.looptime
async def test_a_connection_that_never_asks_is_closed() -> None:
    async with handled_by(echo) as connection:
        await asyncio.sleep(HEAD_SECONDS - 1)
        assert not connection.reader.at_eof()
        assert await connection.closed()


@pytest.mark.looptime
async def test_the_idle_time_counts_from_the_last_answer_also_after_a_slow_head() -> None:
    async with handled_by(echo, idle=3) as connection:
        whole = request("GET", "/")
        connection.send(whole[:5])
        await asyncio.sleep(10)
        connection.send(whole[5:])
        await connection.response()
        await asyncio.sleep(2)
        assert not connection.reader.at_eof()
        await asyncio.sleep(1.1)
        assert connection.reader.at_eof()


@pytest.mark.looptime
async def test_a_connection_without_a_limit_is_kept() -> None:
    async with handled_by(echo) as connection:
        for _ in range(3):
            connection.send(request("GET", "/"))
            assert (await connection.response()).status == 200
            await asyncio.sleep(600)


async def test_what_waits_behind_a_slow_request_is_bounded() -> None:
    loop = asyncio.get_running_loop()
    started, go_on = loop.create_future(), loop.create_future()

    async def handler(req: HttpRequest) -> None:
        if req.target == "/slow":
            started.set_result(req._protocol)
            await go_on
        req.send(200, b"", req.target.encode())

    for headers, count in (({}, 100_000), ({f"X-{n}": "x" * 8000 for n in range(100)}, 40)):
        started, go_on = loop.create_future(), loop.create_future()
        async with handled_by(handler) as connection:
            connection.send(request("GET", "/slow"))
            protocol = await started
            connection.send(request("GET", "/next", headers=headers) * count)
            await until(lambda: protocol._buffer_paused)  # noqa: B023 - used up before the next turn
            assert len(protocol._messages) == 32 if count == 100_000 else 0 < len(protocol._messages) <= 32
            held = sum(len(value) for message, _ in protocol._messages for _, value in message.raw_headers)
            assert held < PIPELINED_BYTES + 2 * 100 * 8000
            go_on.set_result(None)
            assert (await connection.response()).body == b"/slow"
            for _ in range(min(count, 1000)):
                assert (await connection.response()).body == b"/next"


@pytest.mark.looptime
async def test_a_body_that_breaks_behind_another_request_is_not_waited_for() -> None:
    loop = asyncio.get_running_loop()
    go_on = loop.create_future()

    async def handler(req: HttpRequest) -> None:
        if req.target == "/slow":
            await go_on
        try:
            await req.read_body()
        except BadRequest as error:
            req.send(error.status, b"", b"")
        else:
            req.send(200, b"", b"")

    async with handled_by(handler) as connection:
        connection.send(
            request("GET", "/slow") + request(body=b"", headers={"Transfer-Encoding": "chunked"}) + b"1\r\nx\r\n"
        )
        await asyncio.sleep(0.1)
        connection.send(b"nonsense\r\n")
        await asyncio.sleep(0.1)
        go_on.set_result(None)
        assert (await connection.response()).status == 200
        assert (await connection.response()).status == 400
        assert await connection.closed()


@pytest.mark.looptime
async def test_an_answer_nobody_reads_does_not_hold_a_closed_connection() -> None:
    gone: asyncio.Future[RequestHandler] = asyncio.get_running_loop().create_future()

    async def handler(req: HttpRequest) -> None:
        gone.set_result(req._protocol)
        req.send(200, b"", b"x" * 50_000_000)

    async with handled_by(handler) as connection:
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
        connection.send(request("GET", "/", headers={"Connection": "close"}))
        protocol = await gone
        await asyncio.sleep(STALL_SECONDS - 1)
        assert protocol.transport is not None
        await asyncio.sleep(2)
        assert protocol.transport is None


async def test_a_server_that_ends_finishes_its_answers_first() -> None:
    loop = asyncio.get_running_loop()
    started, go_on = loop.create_future(), loop.create_future()

    async def handle(req: HttpRequest) -> HttpRequest:
        started.set_result(None)
        await go_on
        req.send(200, b"", b"whole")
        return req

    server = EdgeServer(handle, Front(Lifecycle()), lambda req, error: None)
    listening = await loop.create_server(server, "127.0.0.1", 0)
    async with connect(listening.sockets[0].getsockname()[1]) as connection:
        connection.send(request("GET", "/"))
        await started
        loop.call_later(0.01, go_on.set_result, None)
        await server.shutdown(5.0)
        assert (await connection.response()).body == b"whole"
        assert await connection.closed()
    listening.close()


def test_what_we_use_of_aiohttp_is_still_there() -> None:
    for name in (
        "log_exception",
        "force_close",
        "_pause_reading_for_buffer",
        "ssl_context",
        "resume_reading",
        "_process_keepalive",
        "start",
    ):
        assert hasattr(RequestHandler, name)
    used = {"_handler_waiter", "_keepalive_handle", "_next_keepalive_close_time", "_request_in_progress", "_waiter"}
    assert used <= set(RequestHandler.__slots__)
    for name in ("handle_error", "data_received", "_drain_helper", "writing_paused", "peername"):
        assert hasattr(RequestHandler, name)
    assert {"_messages", "_current_request"} <= set(RequestHandler.__slots__)
