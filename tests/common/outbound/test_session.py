"""Sessions against a real server on loopback: what may be connected to, and what a session does not do by itself."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from aisix_common.errors import ConfigurationError
from aisix_common.outbound import AnswerTooLarge, Guard, open_session
from aisix_common.outbound.addresses import Reach


async def answer(request: web.Request) -> web.Response:
    response = web.Response(text=request.headers.get("Cookie", "no cookie"))
    response.set_cookie("a", "b")
    return response


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    with suppress(ConnectionError):
        while True:
            await response.write(bytes(1 << 16))
    return response


async def server() -> TestServer:
    app = web.Application()
    app.router.add_get("/", answer)
    app.router.add_get("/endless", endless)
    made = TestServer(app, host="127.0.0.1")
    await made.start_server()
    return made


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_an_operators_url_may_lead_to_loopback(host: str) -> None:
    there = await server()
    async with open_session(Guard(Reach.OPERATOR), timeout=5) as session:
        for _ in range(2):
            async with session.get(f"http://{host}:{there.port}/") as response:
                assert await response.text() == "no cookie"
    await there.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"])
async def test_a_callers_url_may_not(host: str) -> None:
    there = await server()
    async with open_session(Guard(Reach.CALLER), timeout=5) as session:
        with pytest.raises(aiohttp.ClientError) as refused:
            await session.get(f"http://{host}:{there.port}/")
    assert isinstance(refused.value.__cause__ or refused.value, OSError)
    assert "is not public" in str(refused.value)
    await there.close()


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376"])
async def test_metadata_in_any_spelling_is_never_connected_to(host: str) -> None:
    async with open_session(Guard(Reach.OPERATOR), timeout=5) as session:
        with pytest.raises((aiohttp.ClientError, ValueError)) as refused:  # some spellings aiohttp refuses itself
            await session.get(f"http://{host}:1/")
    assert "credentials" in str(refused.value) or isinstance(refused.value, aiohttp.InvalidURL)


async def test_an_excepted_name_is_connected_to() -> None:
    there = await server()
    async with open_session(Guard(Reach.OPERATOR, ["localhost"]), timeout=5) as session:
        async with session.get(f"http://localhost:{there.port}/") as response:
            assert response.status == 200
    await there.close()


async def test_its_lookups_neither_wait_for_the_threads_of_others_nor_take_them() -> None:
    there, over = await server(), threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    hangs = loop.run_in_executor(None, over.wait, 60)
    try:
        async with open_session(Guard(Reach.OPERATOR), timeout=5) as session:
            async with session.get(f"http://localhost:{there.port}/") as response:
                assert response.status == 200
    finally:
        over.set()
        await hangs
        await there.close()


async def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    there = await server()
    async with open_session(Guard(Reach.OPERATOR), timeout=30) as session:
        async with session.get(f"http://127.0.0.1:{there.port}/endless") as response:
            with pytest.raises(AnswerTooLarge, match="more than 4 MiB"):
                await response.read()
        async with session.get(f"http://127.0.0.1:{there.port}/") as response:
            assert (await response.read(), await response.text()) == (b"no cookie", "no cookie")
    await there.close()


async def test_a_session_that_is_closed_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    session = open_session(Guard(Reach.OPERATOR), timeout=5)
    with pytest.raises(aiohttp.ClientConnectorDNSError):
        await session.get("http://no-such-host.invalid/")
    lookups = set(threading.enumerate()) - before
    assert lookups
    await session.close()
    for thread in lookups:
        await asyncio.to_thread(thread.join, 10)
        assert not thread.is_alive()


async def test_a_name_that_leads_nowhere() -> None:
    async with open_session(Guard(Reach.OPERATOR), timeout=5) as session:
        with pytest.raises(aiohttp.ClientConnectorDNSError):
            await session.get("http://no-such-host.invalid/")


async def test_a_certificate_that_is_none_is_said_so() -> None:
    with pytest.raises(ConfigurationError, match="ca_cert"):
        open_session(Guard(Reach.OPERATOR), "no pem", timeout=1)
