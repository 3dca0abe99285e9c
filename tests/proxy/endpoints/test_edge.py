"""The edge over real sockets: what every caller can see, whatever it sends."""

import asyncio
from typing import Any

import pytest

from aisix_common.settings import Address
from aisix_common.settings.listeners import Proxy, RequestId
from aisix_proxy.endpoints._edge import split_target

from tests.support import provider as providers
from tests.support.builders import KEY, SECRET, World, chat, make, serving, settings_of, standard, until
from tests.support.raw_http import ask, connect, request

COMPLETIONS = "/v1/chat/completions"


def limited(limit: int) -> World:
    proxy = Proxy(addr=Address("127.0.0.1", 0), request_body_limit_bytes=limit)
    return make(standard(), settings=settings_of(proxy=proxy))


async def test_buffered_answer() -> None:
    async with providers.running() as provider, serving(world := make(standard(provider.base))) as port:
        answer = await ask(port, request(key=KEY, body=chat("hi", n=2)))
    assert answer.status == 200
    assert answer.json["model"] == "demo-model"
    assert len(answer.json["choices"]) == 2
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-aisix-call-id"] == answer.headers["x-aisix-request-id"] == world.lines[0]["request_id"]
    assert provider.requests[-1].headers["authorization"] == f"Bearer {SECRET}"
    assert provider.requests[-1].headers["x-aisix-request-id"] == world.lines[0]["request_id"]
    assert world.value("aisix_proxy_requests_total", status="200", model="demo-model", endpoint=COMPLETIONS) == 1


async def test_streamed_answer_on_a_connection_that_is_kept() -> None:
    async with providers.running() as provider, serving(world := make(standard(provider.base))) as port:
        async with connect(port) as connection:
            for _ in range(2):
                connection.send(request(key=KEY, body=chat("hi", stream=True)))
                answer = await connection.response()
                assert answer.status == 200
                assert answer.headers["content-type"] == "text/event-stream"
                assert answer.headers["cache-control"] == "no-cache"
                assert answer.body.endswith(b"data: [DONE]\n\n")
            connection.send(request("GET", "/v1/models", key=KEY))
            assert (await connection.response()).json["data"][0]["id"] == "demo-model"
    assert [line["status"] for line in world.lines] == [200, 200, 200]
    assert world.lines[0]["total_tokens"] > 0


async def test_streamed_to_http_1_0_ends_with_the_connection() -> None:
    async with providers.running() as provider, serving(make(standard(provider.base))) as port:
        answer = await ask(port, request(key=KEY, body=chat("hi", stream=True), version="1.0"))
    assert "transfer-encoding" not in answer.headers
    assert answer.headers["connection"] == "close"
    assert answer.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/", 404, None),
        ("GET", "/v1/models/", 404, None),
        ("GET", "/v1%2fmodels", 404, None),
        ("GET", "/V1/models", 404, None),
        ("POST", "/v1/chat/completions/../models", 404, None),
        ("OPTIONS", COMPLETIONS, 405, "POST"),
        ("GET", COMPLETIONS, 405, "POST"),
        ("HEAD", COMPLETIONS, 405, "POST"),
        ("POST", "/v1/models", 405, "GET,HEAD"),
        ("DELETE", "/livez", 405, "GET,HEAD"),
    ],
)
async def test_what_is_not_served_has_an_empty_body(method: str, path: str, status: int, allow: str | None) -> None:
    async with serving(make(standard())) as port:
        answer = await ask(port, request(method, path), head_only=method == "HEAD")
    assert (answer.status, answer.body, answer.headers.get("allow")) == (status, b"", allow)
    assert answer.headers["server"].startswith("AISIX/")
    assert answer.headers["x-aisix-request-id"]


async def test_the_removed_tunnel_says_so() -> None:
    async with serving(make(standard())) as port:
        answer = await ask(port, request("POST", "/passthrough/openai/v1/x", body={}))
    assert answer.status == 410
    assert answer.error["code"] == "endpoint_removed"


async def test_head_is_get_without_its_body() -> None:
    async with serving(make(standard())) as port, connect(port) as connection:
        connection.send(request("HEAD", "/v1/models", key=KEY))
        told = await connection.response(head_only=True)
        connection.send(request("GET", "/v1/models", key=KEY))
        got = await connection.response()
    assert told.status == got.status == 200
    assert told.headers["content-length"] == got.headers["content-length"] == str(len(got.body))


async def test_absolute_form_is_understood() -> None:
    async with serving(make(standard())) as port:
        assert (await ask(port, request("GET", "http://gateway/livez?verbose"))).body.startswith(b"[+]ping ok")


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("/a?b=c?d", ("/a", "b=c?d")),
        ("/a", ("/a", "")),
        ("http://host/a?b", ("/a", "b")),
        ("http://host", ("/", "")),
        ("host:443", ("443", "")),
        ("*", ("", "")),
        ("http://[bad", ("", "")),
    ],
)
def test_targets(target: str, parts: tuple[str, str]) -> None:
    assert split_target(target) == parts


RAW: list[tuple[bytes, int, str]] = [
    (b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x", 400, "conflicting Content-Length headers"),
    (b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 400, "conflicting Content-Length headers"),
    (b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", 400, "exclude each other"),
    (b"Content-Length: two\r\n\r\n{}", 400, "not a number"),
    (b"Content-Length: -1\r\n\r\n{}", 400, "not a number"),
    (b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, "chunked is the only Transfer-Encoding"),
    (b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501, "chunked is the only Transfer-Encoding"),
    (b"Transfer-Encoding: identity\r\n\r\n{}", 501, "chunked is the only Transfer-Encoding"),
    (b"Transfer-Encoding:\r\n\r\n", 501, "chunked is the only Transfer-Encoding"),
    (b"Bad Header: x\r\n\r\n", 400, "not a valid HTTP"),
    (b"X: " + b"x" * 9000 + b"\r\n\r\n", 431, "too long"),
]


@pytest.mark.parametrize(("rest", "status", "text"), RAW)
async def test_what_cannot_be_parsed_gets_our_envelope(rest: bytes, status: int, text: str) -> None:
    async with serving(make(standard())) as port, connect(port) as connection:
        connection.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: sk-do-not-echo\r\n" + rest)
        answer = await connection.response()
        assert await connection.closed()
    assert answer.status == status
    assert text in answer.error["message"]
    assert answer.error["type"] == "invalid_request_error"
    assert answer.headers["server"].startswith("AISIX/")
    assert answer.headers["x-aisix-request-id"]
    assert b"sk-do-not-echo" not in answer.body


@pytest.mark.parametrize(
    ("version", "headers", "text"),
    [
        ("1.0", {"Transfer-Encoding": "chunked"}, "needs HTTP/1.1"),
        ("0.9", {}, "versions spoken here"),
        ("2.0", {}, "versions spoken here"),
        ("1.2", {}, "not a valid HTTP"),
    ],
)
async def test_versions(version: str, headers: dict[str, str], text: str) -> None:
    async with serving(make(standard())) as port, connect(port) as connection:
        connection.send(request("GET", "/livez", headers=headers, version=version) + (b"0\r\n\r\n" if headers else b""))
        answer = await connection.response()
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        assert text in answer.error["message"]
        assert await connection.closed()


async def test_a_body_over_the_limit_is_refused_before_the_key_is_looked_at() -> None:
    async with serving(world := limited(10)) as port, connect(port) as connection:
        connection.send(request(body=b"x" * 11))
        answer = await connection.response()
        assert await connection.closed()
    assert answer.status == 413
    assert answer.error["message"] == "request body exceeds 10-byte limit"
    assert world.value("aisix_proxy_request_body_limit_rejections_total", outcome="completed") == 1
    assert world.lines[0]["status"] == 413


@pytest.mark.parametrize(
    ("method", "path", "label"),
    [("POST", "/nope", "other"), ("PUT", "/v1/models", "/v1/models"), ("POST", "/passthrough/x", "other")],
)
async def test_the_limit_comes_before_the_path(method: str, path: str, label: str) -> None:
    async with serving(world := limited(10)) as port, connect(port) as connection:
        connection.send(request(method, path, body=b"x" * 11))
        answer = await connection.response()
        assert await connection.closed()
    assert (answer.status, answer.error["message"]) == (413, "request body exceeds 10-byte limit")
    assert world.value("aisix_proxy_request_body_limit_rejections_total", endpoint=label) == 1


async def test_a_providers_413_is_not_ours() -> None:
    async with providers.running() as provider, serving(world := make(standard(provider.base))) as port:
        async with connect(port) as connection:
            connection.send(request(key=KEY, body=chat("[[status=413]]")))
            answer = await connection.response()
            assert (answer.status, answer.headers.get("connection")) == (413, None)
            connection.send(request("GET", "/livez"))
            assert (await connection.response()).status == 200
    assert world.value("aisix_proxy_request_body_limit_rejections_total") == 0


@pytest.mark.parametrize("status", [420, 498, 499])
async def test_statuses_of_providers_that_no_registry_knows(status: int) -> None:
    async with providers.running() as provider, serving(make(standard(provider.base))) as port:
        assert (await ask(port, request(key=KEY, body=chat(f"[[status={status}]]")))).status == status


@pytest.mark.parametrize("target", ["GET /nope", "DELETE /livez", "POST /passthrough/x"])
async def test_answers_nobody_reads_are_not_piled_up(target: str) -> None:
    async with serving(world := make(standard())) as port, connect(port) as connection:
        method, path = target.split()
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
        many = request(method, path) * 2000
        written = 0
        try:
            async with asyncio.timeout(1):
                while written < 200_000:
                    connection.send(many)
                    await connection.writer.drain()
                    written += 2000
        except TimeoutError:
            pass
        assert written < 200_000, "the server read on without being read from"
        assert world.lifecycle.in_flight == 1
        connection.abort()


async def test_a_refused_body_is_drained_while_it_still_comes() -> None:
    async with serving(limited(10)) as port, connect(port) as connection:
        connection.send(request(body=b"x" * 1_000_000)[:500_000])
        answer = await connection.response()
        connection.send(b"x" * 600_000)
        assert answer.status == 413
        assert await connection.closed()


async def test_a_body_without_length_is_refused_while_it_is_read() -> None:
    chunked = {"Transfer-Encoding": "chunked"}
    too_much = b"b\r\n" + b"x" * 11 + b"\r\n"
    async with serving(limited(10)) as port:
        async with connect(port) as connection:
            connection.send(request(body=b"", headers=chunked) + too_much)
            assert (await connection.response()).status == 401
        async with connect(port) as connection:
            connection.send(request(key=KEY, body=b"", headers=chunked) + too_much)
            assert (await connection.response()).status == 413


@pytest.mark.parametrize("cut", [1, 7, 60])
async def test_a_body_may_come_in_pieces(cut: int) -> None:
    async with providers.running() as provider, serving(make(standard(provider.base))) as port:
        async with connect(port) as connection:
            whole = request(key=KEY, body=chat("hi"))
            at = whole.index(b"\r\n\r\n") + 4 + cut
            connection.send(whole[:at])
            await asyncio.sleep(0.01)
            connection.send(whole[at:])
            assert (await connection.response()).status == 200


async def test_expect_continue_is_answered_before_the_body() -> None:
    async with providers.running() as provider, serving(make(standard(provider.base))) as port:
        async with connect(port) as connection:
            whole = request(key=KEY, body=chat("hi"), headers={"Expect": "100-continue"})
            head, _, body = whole.partition(b"\r\n\r\n")
            connection.send(head + b"\r\n\r\n")
            assert (await connection.head())[0] == 100
            connection.send(body)
            assert (await connection.response()).status == 200


async def test_a_broken_chunk_is_a_bad_request() -> None:
    async with serving(world := make(standard())) as port, connect(port) as connection:
        connection.send(request(key=KEY, body=b"", headers={"Transfer-Encoding": "chunked"}) + b'5\r\n{"mod\r\n')
        await until(lambda: world.lifecycle.in_flight == 1)
        connection.send(b"nonsense\r\n")
        assert (await connection.response()).status == 400
        assert await connection.closed()


BODIES: list[tuple[Any, dict[str, str], str]] = [
    (b"{", {}, "request payload is invalid: invalid JSON request body"),
    (b"\xff", {}, "request payload is invalid: invalid JSON request body"),
    (b"{}", {"Content-Type": "text/plain"}, "request payload is invalid: invalid JSON request body"),
    (chat() | {"messages": []}, {}, "request payload is invalid: messages array must not be empty"),
    (chat(), {"Content-Encoding": "gzip"}, "request payload is invalid: invalid JSON request body"),
]


@pytest.mark.parametrize(("body", "headers", "message"), BODIES)
async def test_bodies_that_are_no_requests(body: Any, headers: dict[str, str], message: str) -> None:
    async with serving(make(standard())) as port:
        answer = await ask(port, request(key=KEY, body=body, headers=headers))
    assert answer.status == 400
    assert answer.error["message"].startswith(message)
    assert answer.error["type"] == "invalid_request_error"


async def test_the_callers_id_is_echoed_and_ours_is_counted() -> None:
    async with providers.running() as provider, serving(world := make(standard(provider.base))) as port:
        answer = await ask(port, request(key=KEY, body=chat(), headers={"x-aisix-request-id": "mine-1"}))
        refused = await ask(port, request("GET", "/nope", headers={"x-aisix-request-id": "mine-2"}))
        spaced = await ask(port, request("GET", "/nope", headers={"x-aisix-request-id": "mine 3"}))
    assert answer.headers["x-aisix-request-id"] == answer.headers["x-aisix-call-id"] == "mine-1"
    assert refused.headers["x-aisix-request-id"] == "mine-2"
    assert spaced.headers["x-aisix-request-id"] != "mine 3"
    (line,) = world.lines
    assert line["caller_request_id"] == "mine-1"
    assert line["request_id"] != "mine-1"
    assert world.events[0].request_id == line["request_id"]


async def test_other_headers_may_be_configured_for_the_callers_id() -> None:
    proxy = Proxy(addr=Address("127.0.0.1", 0), request_id=RequestId(accept_headers=("x-correlation",)))
    async with serving(make(standard(), settings=settings_of(proxy=proxy))) as port:
        answer = await ask(port, request("GET", "/livez", headers={"X-Correlation": "c", "x-aisix-request-id": "r"}))
    assert answer.headers["x-aisix-request-id"] == "c"


async def test_draining_closes_connections_after_their_answer() -> None:
    async with serving(world := make(standard())) as port, connect(port) as connection:
        connection.send(request("GET", "/livez"))
        assert "connection" not in (await connection.response()).headers
        world.lifecycle.begin_drain()
        connection.send(request("GET", "/livez"))
        answer = await connection.response()
        assert (answer.status, answer.headers["connection"]) == (503, "close")
        assert await connection.closed()


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with serving(make(standard())) as port, connect(port) as connection:
        connection.send(request("GET", "/livez") + request("GET", "/nope") + request("GET", "/v1/models", key=KEY))
        assert [(await connection.response()).status for _ in range(3)] == [200, 404, 200]


async def test_an_upgrade_nobody_serves_is_an_ordinary_request() -> None:
    async with serving(make(standard())) as port:
        headers = {"Connection": "Upgrade", "Upgrade": "websocket"}
        assert (await ask(port, request("GET", "/v1/realtime", headers=headers))).status == 404
