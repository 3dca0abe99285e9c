"""One call of a manager's API: bounded, never redirected, and each failure told without what it was told."""

import asyncio
import ssl
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from aisix_proxy.secret_managers.base import Away, Unresolved, Unusable
from aisix_proxy.secret_managers.rest import Reply, Rest, reason, within

from .scripted_api import Asked, context, scripted_api
from tests.support.authority import Authority, authority
from tests.support.etcd import free_port

CANARY = "sk-canary-5f1b"


async def test_a_request_goes_out_as_it_was_written_and_its_answer_comes_back() -> None:
    async with scripted_api() as api:
        api.says(418, b"tea")
        rest = Rest("Teapot", context())
        got = await rest.ask("POST", f"{api.address}/a%2Fb/%3f", {"X-Token": "t"}, {"k": "v"})
        await rest.aclose()
    assert (got.status, got.content) == (418, b"tea")
    [asked] = api.asked
    assert (asked.method, asked.path, asked.body) == ("POST", "/a%2Fb/%3f", b'{"k":"v"}')
    assert (asked.headers["X-Token"], asked.headers["Content-Type"]) == ("t", "application/json")


async def test_a_redirect_comes_back_and_nobody_goes_there() -> None:
    async with scripted_api() as elsewhere, scripted_api() as api:
        api.says(307, headers={"Location": f"{elsewhere.address}/steal"})
        rest = Rest("X", context())
        assert (await rest.ask("GET", f"{api.address}/", {"X-Token": CANARY})).status == 307
        await rest.aclose()
    assert elsewhere.asked == []


async def _endless(asked: Asked) -> web.StreamResponse:
    return web.Response(body=b"x" * 70_000)


async def _silent(asked: Asked) -> web.StreamResponse:
    await asyncio.sleep(3600)
    raise AssertionError


async def test_too_much_is_away() -> None:
    async with scripted_api() as api:
        api.answer = _endless
        rest = Rest("X", context(), most_bytes=65_536)
        with pytest.raises(Away, match="more than"):
            await rest.ask("GET", f"{api.address}/", {})
        await rest.aclose()


async def test_silence_is_away() -> None:
    async with scripted_api() as api:
        api.answer = _silent
        rest = Rest("X", context(timeout=0.05))
        with pytest.raises(Away, match=r"X did not answer within 0.05 s \(secrets.timeout_ms\)"):
            await rest.ask("GET", f"{api.address}/", {})
        await rest.aclose()


async def test_all_that_is_done_for_one_secret_is_bounded() -> None:
    with pytest.raises(Away, match=r"X did not answer within 0\.01 s"):
        async with within("X", 0.01):
            await asyncio.sleep(3600)


@pytest.mark.parametrize(
    ("url", "kind", "says"),
    [
        ("http://127.0.0.1:{closed}/", Away, "connection refused"),
        ("http://no-such-host.invalid/", Away, "its name leads to no address"),
        ("http://169.254.169.254/latest/meta-data/", Away, "link-local or a cloud's metadata service"),
        ("http://127.0.0.1:99999999/", Unusable, "no URL that can be called"),
        ("http://:80/", Unusable, "no URL that can be called"),
        ("http://[::1/", Unusable, "no URL that can be called"),
        (f"http://{'a' * 70}.test/", Unusable, "no URL that can be called"),
    ],
)
async def test_where_nothing_answers(url: str, kind: type[Unresolved], says: str) -> None:
    rest = Rest("X", context())
    with pytest.raises(kind, match=says) as raised:
        await rest.ask("GET", url.format(closed=free_port()), {"X-Token": CANARY})
    await rest.aclose()
    assert CANARY not in str(raised.value)


async def test_a_peer_that_speaks_no_http() -> None:
    async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 smtp\r\n")
        writer.close()

    server = await asyncio.start_server(hello, "127.0.0.1", 0)
    rest = Rest("X", context())
    with pytest.raises(Away, match="cannot be reached"):
        await rest.ask("GET", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", {})
    await rest.aclose()
    server.close()


@pytest.mark.parametrize(
    ("trusts", "days", "name", "says"),
    [
        ("Test CA", 1, "127.0.0.1", None),
        (None, 1, "127.0.0.1", "certificate is refused: .*issuer|self.signed"),
        ("Another CA", 1, "127.0.0.1", "certificate is refused"),
        ("Test CA", -1, "127.0.0.1", "certificate has expired"),
        ("Test CA", 1, "elsewhere.test", "certificate is refused: .*mismatch"),
    ],
)
async def test_certificates(trusts: str | None, days: int, name: str, says: str | None, tmp_path: Path) -> None:
    async with scripted_api(authority("Test CA").server(tmp_path, name, days=days)) as api:
        api.says(200)
        rest = Rest("X", context(), authority(trusts).pem if trusts else None)
        if says is None:
            assert (await rest.ask("GET", f"{api.address}/", {})).status == 200
        else:
            with pytest.raises(Away, match=says):
                await rest.ask("GET", f"{api.address}/", {})
            assert api.asked == []
        await rest.aclose()


async def test_an_authority_that_is_none_cannot_be_used() -> None:
    rest = Rest("X", context(), Authority().pem.replace("\n", "x"))
    with pytest.raises(Unusable, match="ca_cert"):
        await rest.ask("GET", "http://127.0.0.1/", {})


async def test_a_header_that_cannot_be_sent_is_named_without_its_value() -> None:
    rest = Rest("X", context())
    with pytest.raises(Unusable, match="X-Token") as raised:
        await rest.ask("GET", "http://127.0.0.1/", {"X-Token": f"{CANARY}\r\nX-Other: 1"})
    assert CANARY not in str(raised.value)


async def test_a_closed_client_opens_nothing() -> None:
    rest = Rest("X", context())
    await rest.aclose()
    await rest.aclose()
    with pytest.raises(Away, match="changed"):
        await rest.ask("GET", "http://127.0.0.1/", {})


@pytest.mark.parametrize("content", [b"<html>", b"", b"[1]", b'{"a": "no number"}', b"\xff", b"[" * 5000])
def test_what_is_not_the_document_is_not_the_api(content: bytes) -> None:
    with pytest.raises(Away, match=r"what answers \(200\) is not X's API"):
        Reply("X", 200, content).read(dict[str, int])


def test_a_reply_shows_no_body() -> None:
    assert CANARY not in repr(Reply("X", 200, CANARY.encode()))


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (ConnectionResetError(104, "Connection reset by peer"), "connection reset by peer"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "TLS: protocol error"),
        (aiohttp.ServerDisconnectedError(), "the connection was closed before the answer was complete"),
        (aiohttp.ClientPayloadError(CANARY), "the connection was closed before the answer was complete"),
        (aiohttp.ClientError(CANARY), "what answers does not speak HTTP"),
    ],
)
def test_reasons(problem: BaseException, words: str) -> None:
    assert reason(problem) == words
