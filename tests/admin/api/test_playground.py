"""The playground over sockets: through a real proxy to a provider, and against peers that hold, cut and vanish."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession, web

from aisix_admin.playground import BODY_LIMIT

from tests.support.admin import RunningAdmin, running_admin
from tests.support.builders import KEY, chat, make, serving, standard
from tests.support.etcd import EtcdServer, free_port
from tests.support.provider import running

PATH = "/playground/chat/completions"


@asynccontextmanager
async def peer(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """A proxy that does what the test says; gives its base URL."""
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
def admin_at(etcd: EtcdServer, etcd_prefix: str) -> Callable[[str | None], Any]:
    return lambda url: running_admin(etcd.endpoint, etcd_prefix, playground=url)


async def test_not_wired(admin: RunningAdmin) -> None:
    async with admin.session.post(admin.url + PATH, json=chat()) as answer:
        assert answer.status == 501
        message = "playground not wired: proxy router not configured"
        assert await answer.json() == {"error_msg": message, "errors": [{"path": "", "message": message}]}


async def test_a_chat_through_a_real_proxy(admin_at: Callable[[str], Any]) -> None:
    async with running() as provider, serving(make(standard(provider.base))) as port:
        async with admin_at(f"http://127.0.0.1:{port}") as admin:
            key = {"Authorization": f"Bearer {KEY}"}
            async with admin.session.post(admin.url + PATH + "?ignored=1", json=chat(), headers=key) as answer:
                assert answer.status == 200, await answer.text()
                body = await answer.json()
                assert body["choices"][0]["message"]["role"] == "assistant"
                assert "x-aisix-call-id" in answer.headers
            async with admin.session.post(admin.url + PATH, json=chat(), headers={"x-api-key": "nope"}) as answer:
                assert answer.status == 401
                assert (await answer.json())["error"]["message"] == "Invalid API key"
            async with admin.session.post(admin.url + PATH, json=chat(stream=True), headers=key) as answer:
                assert answer.content_type == "text/event-stream"
                assert (await answer.text()).rstrip().endswith("data: [DONE]")
        assert KEY not in admin.logged


async def test_what_is_passed_on_and_what_is_not(admin_at: Callable[[str], Any]) -> None:
    seen: list[web.Request] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append(request)
        body = await request.read()
        headers = {"X-Odd": "kept", "Connection": "x-hop", "X-Hop": "dropped", "Retry-After": "7", "Server": "theirs"}
        return web.Response(status=429, reason="Slow Down", body=body[::-1], headers=headers)

    async with peer(handler) as url, admin_at(url + "/base/") as admin:
        sent = {
            "Authorization": "Bearer sk-x",
            "Content-Type": "application/json; charset=utf-8",
            "Accept": "text/event-stream",
            "Connection": "x-secret-hop",
            "X-Secret-Hop": "1",
            "Proxy-Authorization": "Basic x",
            "X-Forwarded-For": "192.0.2.1",
            "x-custom": "yes",
        }
        async with admin.session.post(admin.url + PATH + "?a=b", data=b'{"a": 1}', headers=sent) as answer:
            assert (answer.status, answer.reason, await answer.read()) == (429, "Slow Down", b'}1 :"a"{')
            assert answer.headers["X-Odd"] == "kept" and answer.headers["Retry-After"] == "7"
            assert answer.headers["Server"] == "theirs"
            assert "X-Hop" not in answer.headers
        (request,) = seen
        assert (request.method, request.path_qs) == ("POST", "/base/v1/chat/completions")
        assert request.headers["Host"] == url.removeprefix("http://")
        for name in ("Authorization", "Content-Type", "Accept", "x-custom"):
            assert request.headers[name] == sent[name]
        assert request.headers["Content-Length"] == "8"
        assert request.headers["X-Forwarded-For"] == "192.0.2.1, 127.0.0.1"
        assert "X-Secret-Hop" not in request.headers and "Proxy-Authorization" not in request.headers
        assert "x-aisix-request-id" in request.headers


async def test_the_first_chunk_arrives_while_the_rest_is_held(admin_at: Callable[[str], Any]) -> None:
    go_on = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: 1\n\n")
        await go_on.wait()
        await response.write(b"data: 2\n\n")
        return response

    async with peer(handler) as url, admin_at(url) as admin:
        async with admin.session.post(admin.url + PATH, json=chat(stream=True)) as answer:
            async with asyncio.timeout(5):
                assert await answer.content.readany() == b"data: 1\n\n"
            go_on.set()
            assert await answer.content.read() == b"data: 2\n\n"


async def test_the_body_goes_up_as_it_comes(admin_at: Callable[[str], Any]) -> None:
    arrived = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        first = await request.content.readany()
        arrived.set()
        return web.Response(body=first + await request.content.read())

    async def slowly() -> AsyncIterator[bytes]:
        yield b"one "
        await arrived.wait()
        yield b"two"

    async with peer(handler) as url, admin_at(url) as admin, asyncio.timeout(10):
        async with admin.session.post(admin.url + PATH, data=slowly()) as answer:
            assert await answer.read() == b"one two"


@pytest.mark.parametrize("begun", [True, False])
async def test_a_caller_that_leaves_cuts_the_chat(begun: bool, admin_at: Callable[[str], Any]) -> None:
    there, cut = asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse()
        if begun:
            await response.prepare(request)
            await response.write(b"data: 1\n\n")
        there.set()
        try:
            await asyncio.Event().wait()
        finally:
            cut.set()
        return response

    async with peer(handler) as url, admin_at(url) as admin, asyncio.timeout(10):
        async with ClientSession() as caller:
            asking = asyncio.create_task(caller.post(admin.url + PATH, json=chat()))
            await there.wait()
            asking.cancel()
            if not begun:
                await asyncio.wait([asking])
        await cut.wait()


async def test_an_answer_that_breaks_off_does_so_for_the_caller_too(admin_at: Callable[[str], Any]) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"data: 1\n\n")
        assert request.transport is not None
        request.transport.abort()
        return response

    async with peer(handler) as url, admin_at(url) as admin, asyncio.timeout(10):
        async with admin.session.post(admin.url + PATH, json=chat()) as answer:
            with pytest.raises(ClientError):
                await answer.read()
        assert (await admin.call("GET", "/health"))[0] == 200


async def test_a_proxy_that_is_not_there(admin_at: Callable[[str], Any]) -> None:
    async with admin_at(f"http://127.0.0.1:{free_port()}") as admin:
        async with admin.session.post(admin.url + PATH, json=chat()) as answer:
            assert answer.status == 502
            body = await answer.json()
            assert "cannot be reached" in body["error_msg"] and "127.0.0.1" not in json.dumps(body)


async def test_a_proxy_that_hangs_up_without_an_answer(admin_at: Callable[[str], Any]) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with peer(handler) as url, admin_at(url) as admin:
        async with admin.session.post(admin.url + PATH, json=chat()) as answer:
            assert answer.status == 502


async def test_redirects_are_not_followed(admin_at: Callable[[str], Any]) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        raise web.HTTPTemporaryRedirect("http://127.0.0.1:1/elsewhere")

    async with peer(handler) as url, admin_at(url) as admin:
        async with admin.session.post(admin.url + PATH, json=chat(), allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (307, "http://127.0.0.1:1/elsewhere")


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_over_the_bound(declared: bool, admin_at: Callable[[str], Any]) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(body=str(len(await request.read())).encode())

    async def pieces(size: int) -> AsyncIterator[bytes]:
        for _ in range(size // 1024):
            yield b"x" * 1024
        yield b"x" * (size % 1024)

    def body(size: int) -> Any:
        return b"x" * size if declared else pieces(size)

    async with peer(handler) as url, admin_at(url) as admin:
        async with admin.session.post(admin.url + PATH, data=body(3 * 1024 * 1024)) as answer:
            assert (answer.status, await answer.text()) == (200, str(3 * 1024 * 1024)), "more than the admin API takes"
        async with admin.session.post(admin.url + PATH, data=body(BODY_LIMIT + 1)) as answer:
            assert answer.status == 413
            assert str(BODY_LIMIT) in (await answer.json())["error_msg"]


async def test_other_methods(admin: RunningAdmin) -> None:
    async with admin.session.get(admin.url + PATH) as answer:
        assert answer.status == 405
