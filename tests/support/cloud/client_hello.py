"""Which application protocols a TLS client offers, read from its first bytes. Pure: nothing is decrypted."""

from typing import Final

LONGEST: Final = 64 * 1024
"""Bytes of handshake records looked at: a ClientHello is far smaller."""

_HANDSHAKE_RECORD: Final = 22
_CLIENT_HELLO: Final = 1
_ALPN: Final = 16


class NotTls(Exception):
    """The bytes are no ClientHello."""


def offered(data: bytes) -> tuple[str, ...] | None:
    """The ALPN names of the ClientHello that `data` begins with, () if it offers none; None: more bytes are needed.

    Raises NotTls.
    """
    hello = _hello(data)
    if hello is None:
        return None
    try:
        return _protocols(hello)
    except IndexError:
        raise NotTls from None


def _hello(data: bytes) -> bytes | None:
    """The body of the ClientHello, put together from its records; None while it is not complete."""
    body, at = b"", 0
    while True:
        if len(body) >= 4:
            if body[0] != _CLIENT_HELLO:
                raise NotTls
            length = int.from_bytes(body[1:4], "big")
            if len(body) >= 4 + length:
                return body[4 : 4 + length]
        if data[at : at + 1] not in (b"", bytes([_HANDSHAKE_RECORD])) or at > LONGEST:
            raise NotTls
        size = int.from_bytes(data[at + 3 : at + 5], "big")
        if len(data) < at + 5 or len(data) < at + 5 + size:
            return None
        body += data[at + 5 : at + 5 + size]
        at += 5 + size


def _protocols(hello: bytes) -> tuple[str, ...]:
    at = 2 + 32  # version and random
    at += 1 + hello[at]  # session id
    at += 2 + int.from_bytes(hello[at : at + 2], "big")  # cipher suites
    at += 1 + hello[at]  # compression
    end = at + 2 + int.from_bytes(hello[at : at + 2], "big")
    at += 2
    while at + 4 <= min(end, len(hello)):
        kind, size = int.from_bytes(hello[at : at + 2], "big"), int.from_bytes(hello[at + 2 : at + 4], "big")
        at += 4
        if kind == _ALPN:
            return _names(hello[at + 2 : at + size])
        at += size
    return ()


def _names(packed: bytes) -> tuple[str, ...]:
    names: list[str] = []
    while packed:
        size = packed[0]
        names.append(packed[1 : 1 + size].decode("ascii", "replace"))
        packed = packed[1 + size :]
    return tuple(names)
