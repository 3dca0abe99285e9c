"""Answers in a coding nobody asked for."""

import gzip

import pytest

from aisix_proxy.canonical.errors import UpstreamProtocol
from aisix_proxy.upstream.coding import plain, unasked


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "x-gzip"])
def test_gzip_is_undone(coding: str) -> None:
    assert plain(gzip.compress(b"hello"), coding, 5) == b"hello"


def test_a_bomb_stops_at_the_bound() -> None:
    bomb = gzip.compress(b"\0" * 10_000_000)
    with pytest.raises(UpstreamProtocol, match="larger than 1000 bytes when unpacked"):
        plain(bomb, "gzip", 1000)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        gzip.compress(b"x" * 99, mtime=0)[:-4],
        gzip.compress(b"x", mtime=0) + b"tail",
        gzip.compress(b"x", mtime=0) * 2,
    ],
)
def test_what_is_not_one_whole_gzip_is_refused(body: bytes) -> None:
    with pytest.raises(UpstreamProtocol, match="gzip"):
        plain(body, "gzip", 1000)


@pytest.mark.parametrize("coding", ["br", "zstd", "deflate", "gzip, gzip", ""])
def test_other_codings_are_refused(coding: str) -> None:
    with pytest.raises(UpstreamProtocol, match="not asked for"):
        plain(gzip.compress(b"x"), coding, 1000)


def test_an_absurd_coding_is_not_repeated_in_full() -> None:
    assert len(unasked("x" * 10_000)) < 100
