"""What a ClientHello offers is read from any split of its bytes, and nothing else is taken for one."""

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.cloud.client_hello import NotTls, offered


def hello(*names: str) -> bytes:
    """A real one."""
    context = ssl.create_default_context()
    if names:
        context.set_alpn_protocols(list(names))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="cloud.test").do_handshake()
    return outgoing.read()


def split(data: bytes, size: int) -> bytes:
    """The same handshake in records of at most `size` bytes."""
    head, body = data[:3], data[5:]
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(head + len(piece).to_bytes(2, "big") + piece for piece in pieces)


@pytest.mark.parametrize("names", [(), ("h2",), ("http/1.1",), ("h2", "http/1.1"), ("grpc-exp", "h2")])
def test_what_it_offers(names: tuple[str, ...]) -> None:
    whole = hello(*names)
    for data in (whole, whole + b"more", split(whole, 100), split(whole, 3)):
        assert offered(data) == names
    for cut in range(len(whole)):
        assert offered(whole[:cut]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n",
        b"\x17\x03\x03\x00\x05hello",
        b"\x16\x03\x03\x00\x04\x02\x00\x00\x00",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        b"\x16\x03\x03\x00\x00" * 20_000,
    ],
)
def test_anything_else_is_none(data: bytes) -> None:
    with pytest.raises(NotTls):
        offered(data)


@given(st.binary(max_size=200))
def test_no_bytes_are_too_odd(body: bytes) -> None:
    hello = b"\x01" + len(body).to_bytes(3, "big") + body
    try:
        offered(b"\x16\x03\x01" + len(hello).to_bytes(2, "big") + hello)
    except NotTls:
        pass
