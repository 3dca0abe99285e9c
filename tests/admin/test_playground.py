"""The client side of the playground: what becomes of headers, and of addresses that do not answer."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from aisix_admin.playground import NotWired, Playground, ProxyAway, answer_headers, request_headers


def headers(*pairs: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(pairs))


async def nothing() -> AsyncIterator[bytes]:
    return
    yield b""


def test_hop_by_hop_headers_stay_behind() -> None:
    sent = headers(
        ("Host", "admin"),
        ("Connection", "keep-alive, X-One"),
        ("Connection", "x-two"),
        ("X-One", "1"),
        ("X-Two", "2"),
        ("TE", "trailers"),
        ("Transfer-Encoding", "chunked"),
        ("Expect", "100-continue"),
        ("X-Many", "a"),
        ("X-Many", "b"),
    )
    assert list(request_headers(sent, peer=None).items()) == [("X-Many", "a"), ("X-Many", "b")]
    assert list(answer_headers(headers(("Connection", "close"), ("Expect", "x"))).items()) == [("Expect", "x")]


def test_the_callers_address_and_id() -> None:
    sent = headers(("X-Forwarded-For", "192.0.2.1"), ("x-forwarded-for", "192.0.2.2"))
    passed = request_headers(sent, peer="192.0.2.3", request_id=("x-id", "ours"))
    assert passed["X-Forwarded-For"] == "192.0.2.1, 192.0.2.2, 192.0.2.3"
    assert passed["x-id"] == "ours"
    assert request_headers(headers(("X-ID", "theirs")), peer=None, request_id=("x-id", "ours")).getall("x-id") == [
        "theirs"
    ]


@pytest.mark.parametrize("url", [None, ""])
async def test_not_wired(url: str | None) -> None:
    with pytest.raises(NotWired):
        Playground(url).require_wired()
    with pytest.raises(NotWired):
        async with Playground(url).relayed(CIMultiDict(), nothing()):
            pass


async def test_an_address_that_swallows_connections() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        others = []
        for _ in range(3):  # the queue of the listener is full, and nobody takes from it
            other = socket.socket()
            other.setblocking(False)
            other.connect_ex(("127.0.0.1", port))
            others.append(other)
        try:
            async with asyncio.timeout(5):
                with pytest.raises(ProxyAway) as caught:
                    async with Playground(f"http://127.0.0.1:{port}", connect_seconds=0.2).relayed(
                        CIMultiDict(), nothing()
                    ):
                        pass
            assert str(port) not in str(caught.value)
        finally:
            for other in others:
                other.close()
