"""One answer, without any socket: what is taken, what is refused, and that the cut of the bytes does not matter."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisix_proxy.canonical.errors import UpstreamAborted, UpstreamProtocol, UpstreamUnreachable
from aisix_proxy.upstream.reply import HIGH_WATER, MAX_HEAD, MAX_HEADERS, Reply


class Wire:
    """A connection that only remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def finish(self, reusable: bool) -> None:
        self.told.append("keep" if reusable else "discard")

    def drop(self) -> None:
        self.told.append("drop")

    def pause(self) -> None:
        self.told.append("pause")

    def resume(self) -> None:
        self.told.append("resume")


def hear(*pieces: bytes, max_body: int | None = 1000) -> tuple[Reply, Wire]:
    wire = Wire()
    reply = Reply(wire, "up:1", max_body)
    for piece in pieces:
        reply.feed(piece)
    return reply, wire


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


OK = b"HTTP/1.1 200 OK\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

COMPLETE = {
    "content-length": (OK + b"Content-Length: 2\r\n\r\nhi", b"hi", "keep"),
    "empty": (OK + b"Content-Length: 0\r\n\r\n", b"", "keep"),
    "chunked": (CHUNKED + b"2\r\nhi\r\n3\r\n yo\r\n0\r\n\r\n", b"hi yo", "keep"),
    "chunk extension": (CHUNKED + b'2;a="b"\r\nhi\r\n0\r\n\r\n', b"hi", "keep"),
    "trailers": (CHUNKED + b"2\r\nhi\r\n0\r\nX-T: 1\r\n\r\n", b"hi", "keep"),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b"", "keep"),
    "close": (OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nhi", b"hi", "discard"),
    "interim answers": (INTERIM + OK + b"Content-Length: 2\r\n\r\nhi", b"hi", "keep"),
    "http/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"hi", "discard"),
    "no reason phrase": (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi", b"hi", "keep"),
    "an offered upgrade": (OK + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nhi", b"hi", "keep"),
}  # fmt: skip


@pytest.mark.parametrize("case", COMPLETE)
def test_complete_answers_whole_and_byte_by_byte(case: str) -> None:
    data, body, fate = COMPLETE[case]
    for pieces in ([data], bytewise(data)):
        reply, wire = hear(*pieces)
        assert reply.error is None
        assert (reply.complete, reply.take(), wire.told) == (True, body, [fate])
        assert reply.status in {200, 204}
        assert not {"x-t", "link"} & set(reply.headers)


REFUSED = {
    "not http": (b"<html>hello", "broken HTTP framing"),
    "http/2": (b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", "HTTP/2.0"),
    "two lengths": (OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi", "broken HTTP framing"),
    "lengths in a list": (OK + b"Content-Length: 2, 2\r\n\r\nhi", "broken HTTP framing"),
    "signed length": (OK + b"Content-Length: +2\r\n\r\nhi", "broken HTTP framing"),
    "length and chunked": (OK + b"Content-Length: 2\r\n" + CHUNKED[17:] + b"0\r\n\r\n", "broken HTTP framing"),
    "gzip transfer": (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "transfer coding"),
    "gzip transfer to the end": (OK + b"Transfer-Encoding: gzip\r\n\r\nxx", "transfer coding"),
    "bare LF": (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", "broken HTTP framing"),
    "folded header": (OK + b"A: b\r\n c\r\nContent-Length: 2\r\n\r\nhi", "broken HTTP framing"),
    "NUL in a header": (OK + b"A: \0\r\nContent-Length: 2\r\n\r\nhi", "broken HTTP framing"),
    "switched protocols": (b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "switched protocols"),
    "bad chunk size": (CHUNKED + b"zz\r\nhi\r\n", "broken HTTP framing"),
    "huge chunk size": (CHUNKED + b"ffffffffffffffffff\r\nhi", "broken HTTP framing"),
    "declared too large": (OK + b"Content-Length: 1001\r\n\r\n", "larger than 1000 bytes"),
    "grew too large": (CHUNKED + (b"64\r\n" + b"x" * 100 + b"\r\n") * 11, "larger than 1000 bytes"),
    "too many headers": (OK + b"A: b\r\n" * (MAX_HEADERS + 2), "larger than the gateway accepts"),
    "too large a header": (OK + b"A: " + b"b" * MAX_HEAD + b"\r\n\r\n", "larger than the gateway accepts"),
    "too large trailers": (CHUNKED + b"0\r\n" + b"A: b\r\n" * (MAX_HEADERS + 2), "larger than the gateway accepts"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_answers_whole_and_byte_by_byte(case: str) -> None:
    data, rule = REFUSED[case]
    for pieces in ([data], bytewise(data)):
        reply, wire = hear(*pieces)
        assert isinstance(reply.error, UpstreamProtocol)
        assert rule in reply.error.message
        assert "up:1" in reply.error.message
        assert (reply.complete, wire.told) == (False, ["drop"])


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (OK + b"A: ", b"b" * 1000),
        (OK, b"A: b\r\n" * 20),
        (b"HTTP/1.1 200 ", b"O" * 1000),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 20),
        (CHUNKED + b"2;", b"x" * 1000),
        (CHUNKED + b"2\r\nhi\r\n0\r\n", b"A: b\r\n" * 20),
        (CHUNKED + b"2\r\nhi\r\n0\r\nA: ", b"b" * 1000),
    ],
    ids=["header", "headers", "reason", "interim", "chunk extension", "trailers", "trailer"],
)
@pytest.mark.parametrize("max_body", [1000, None])
def test_what_never_ends_is_cut_off(start: bytes, more: bytes, max_body: int | None) -> None:
    reply, wire = hear(start, max_body=max_body)
    fed = 0
    while reply.error is None:
        reply.feed(more)
        fed += len(more)
        assert fed <= 2 * MAX_HEAD
    assert "larger than the gateway accepts" in reply.error.message
    assert wire.told == ["drop"]


@pytest.mark.parametrize(
    "extra", [b"HTTP/1.1 200 OK\r\n", b"H", b"junk", b"HTTP/1.1 101 S\r\n\r\n", OK + b"Content-Length: 2\r\n\r\nno"]
)
@pytest.mark.parametrize("answer", ["content-length", "chunked", "no content", "close"])
def test_bytes_after_the_end_spoil_the_connection_and_not_the_answer(answer: str, extra: bytes) -> None:
    data, body, _ = COMPLETE[answer]
    reply, wire = hear(data + extra)
    assert (reply.complete, reply.error, reply.take(), wire.told) == (True, None, body, ["discard"])


def test_a_body_without_length_ends_with_the_connection() -> None:
    for version in (b"1.0", b"1.1"):
        reply, wire = hear(b"HTTP/" + version + b" 200 OK\r\n\r\n", b"hi", b" yo")
        assert not reply.complete
        reply.broken(None)
        assert (reply.complete, reply.error, reply.take(), wire.told) == (True, None, b"hi yo", [])


def test_a_body_without_length_that_was_reset_is_not_whole() -> None:
    reply, _ = hear(OK + b"\r\nhi")
    reply.broken("connection reset by peer")
    assert isinstance(reply.error, UpstreamUnreachable)


@pytest.mark.parametrize(
    ("data", "words", "started"),
    [
        (b"", "before any answer", False),
        (b"HTTP/1.1 2", "in the middle of the answer's head", True),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "in the middle of the answer's head", True),
        (OK + b"Content-Length: 5\r\n\r\nhi", "in the middle of the answer's body", True),
        (CHUNKED + b"2\r\nhi\r\n", "in the middle of the answer's body", True),
        (CHUNKED + b"2\r\nhi\r\n0\r\n", "in the middle of the answer's body", True),
    ],
)
def test_a_broken_connection_says_where(data: bytes, words: str, started: bool) -> None:
    reply, _ = hear(*([data] if data else []))
    reply.broken("connection reset by peer")
    assert isinstance(reply.error, UpstreamUnreachable)
    assert reply.error.message == f"transport error: receive from up:1: connection reset by peer {words}"
    assert reply.started is started


def test_a_broken_stream_is_aborted_after_its_bytes_were_read() -> None:
    reply, _ = hear(CHUNKED + b"2\r\nhi\r\n", max_body=None)
    reply.broken(None)
    assert isinstance(reply.error, UpstreamAborted)
    assert reply.take() == b"hi"


def test_a_misframed_stream_hands_out_what_came_before() -> None:
    reply, _ = hear(CHUNKED + b"2\r\nhi\r\nzz", max_body=None)
    assert isinstance(reply.error, UpstreamProtocol)
    assert reply.take() == b"hi"


def test_headers_are_lower_case_joined_and_survive_as_bytes() -> None:
    reply, _ = hear(OK + b"X-A: 1 \r\nx-a:2\r\nX-B: \xe6\x97\xa5\xff\r\nContent-Length: 0\r\n\r\n")
    assert reply.headers == {"x-a": "1, 2", "x-b": "日\udcff", "content-length": "0"}


def test_a_stream_that_nobody_reads_pauses_and_goes_on() -> None:
    reply, wire = hear(CHUNKED, max_body=None)
    chunk = b"1000\r\n" + b"x" * 4096 + b"\r\n"
    while not wire.told:
        reply.feed(chunk)
    assert wire.told == ["pause"]
    assert HIGH_WATER < len(reply.take()) <= HIGH_WATER + 4096
    assert wire.told == ["pause", "resume"]
    assert not reply.pending


def test_a_paused_stream_that_completes_leaves_a_connection_that_reads() -> None:
    reply, wire = hear(CHUNKED + b"20000\r\n" + b"x" * 0x20000, max_body=None)
    assert wire.told == ["pause"]
    reply.feed(b"\r\n0\r\n\r\n")
    assert wire.told == ["pause", "resume", "keep"]
    assert len(reply.take()) == 0x20000
    assert wire.told == ["pause", "resume", "keep"]


def test_tiny_chunks_cost_no_more_than_their_bytes() -> None:
    reply, _ = hear(CHUNKED + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n", max_body=100_000)
    assert reply.take() == b"x" * 100_000


async def test_waiting_is_woken_once_and_survives_a_waiter_that_left() -> None:
    loop = asyncio.get_running_loop()
    reply, _ = hear(CHUNKED, max_body=None)
    waiter = reply.wait(loop)
    reply.feed(b"2\r\nhi\r\n")
    reply.feed(b"2\r\nhi\r\n")
    assert await waiter is True
    waiter = reply.wait(loop)
    reply.expire()
    assert await waiter is False
    reply.wait(loop).cancel()
    reply.feed(b"2\r\nhi\r\n")
    reply.expire()


async def test_a_buffered_answer_wakes_only_when_it_is_whole() -> None:
    reply, _ = hear(OK + b"Content-Length: 4\r\n")
    waiter = reply.wait(asyncio.get_running_loop())
    for piece in (b"\r\n", b"12", b"3"):
        reply.feed(piece)
        assert not waiter.done()
    reply.feed(b"4")
    assert await waiter is True


PARTS = [OK, b"HTTP/1.1 100 C\r\n\r\n", b"\r\n", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"abc",
         b"3\r\nabc\r\n", b"0\r\n\r\n", b"Connection: close\r\n", b"X: y\r\n", b"\0", b"\n"]  # fmt: skip


@given(st.lists(st.sampled_from(PARTS) | st.binary(max_size=6), max_size=12), st.data(), st.booleans())
def test_any_cut_of_any_bytes_ends_the_same(parts: list[bytes], data: st.DataObject, stream: bool) -> None:
    text = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True) if a != b]
    limit = None if stream else 1000
    whole, _ = hear(*([text] if text else []), max_body=limit)
    split, _ = hear(*pieces, max_body=limit)
    for reply in (whole, split):
        reply.broken(None)
        assert reply.complete != (reply.error is not None)
    assert (whole.complete, type(whole.error)) == (split.complete, type(split.error))
    if whole.complete:
        assert (whole.status, whole.headers, whole.take()) == (split.status, split.headers, split.take())
