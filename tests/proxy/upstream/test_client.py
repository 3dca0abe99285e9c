"""The client against scripted upstreams: calls, streams, every way an answer can go wrong, and what is left over.

More than 600 lines because a fault is a short dialogue, and a new one belongs in this list rather than in a new file.
"""

import asyncio
import gzip
import os

import pytest

from aisix_proxy.canonical.errors import (
    Misconfigured,
    UpstreamAborted,
    UpstreamError,
    UpstreamProtocol,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from aisix_proxy.canonical.http import UpstreamRequest
from aisix_proxy.upstream.client import RACE_SECONDS, UpstreamClient, UpstreamStream
from aisix_proxy.upstream.reply import HIGH_WATER

from tests.support.playbook import (
    Answer,
    Chunk,
    Close,
    End,
    Expect,
    Gone,
    Head,
    Hear,
    Line,
    Playbook,
    Reset,
    Send,
    Stall,
    Until,
    Upstream,
)

MB = 1024 * 1024


def post(upstream: Upstream, body: bytes = b"{}", *, path: str = "/v1/chat/completions") -> UpstreamRequest:
    return UpstreamRequest(upstream.origin, "POST", path, (("content-type", "application/json"),), body)


async def settled(client: UpstreamClient, *, open: int = 0, idle: int = 0) -> None:
    """The client has come to hold just so many connections; waits for the loop to say so."""
    async with asyncio.timeout(5):
        while (client.open_connections, client.idle) != (open, idle):
            await asyncio.sleep(0.001)
    assert client.in_use == open - idle


async def held_back(stream: UpstreamStream, upstream: Upstream) -> None:
    """Nothing is read from the connection any more, and the sockets' own buffers are full."""
    transport = stream._connection._transport
    assert transport is not None
    sent = -1
    async with asyncio.timeout(20):
        while transport.is_reading() or sent != upstream.sent:
            sent = upstream.sent
            await asyncio.sleep(0.1)


async def drain(stream: UpstreamStream) -> bytes:
    whole = b""
    while data := await stream.read(5):
        whole += data
    assert data == b""
    return whole


# -- buffered ---------------------------------------------------------------------------------------------------------


async def test_a_call_says_what_it_should_and_hands_back_the_answer(client: UpstreamClient) -> None:
    play = Playbook([Expect("POST", "/v1/x?a=b", b'{"q":1}'), Answer(201, b'{"a":2}', {"X-Request-Id": "r1"})])
    async with play.on_stage() as upstream:
        response = await client.send(post(upstream, b'{"q":1}', path="/v1/x?a=b"), timeout=5, max_body=MB)
    assert (response.status, response.body) == (201, b'{"a":2}')
    assert response.headers["x-request-id"] == "r1"
    (heard,) = upstream.requests
    assert heard.headers == {
        "host": f"127.0.0.1:{upstream.origin.port}",
        "content-type": "application/json",
        "content-length": "7",
    }


async def test_calls_share_one_connection(client: UpstreamClient) -> None:
    play = Playbook([line for _ in range(5) for line in (Expect(), Answer(200, b"ok"))])
    async with play.on_stage() as upstream:
        for _ in range(5):
            assert (await client.send(post(upstream), timeout=5, max_body=10)).body == b"ok"
        await settled(client, open=1, idle=1)
    assert upstream.connections == 1


async def test_a_large_body_goes_up_and_a_large_body_comes_down(client: UpstreamClient) -> None:
    up, down = os.urandom(3 * MB), os.urandom(5 * MB)
    async with Playbook([Expect(body=up), Answer(200, down), Expect(), Answer(200)]).on_stage() as upstream:
        assert (await client.send(post(upstream, up), timeout=10, max_body=5 * MB)).body == down
        assert (await client.send(post(upstream), timeout=10, max_body=0)).body == b""


async def test_a_call_without_a_deadline_waits_as_long_as_it_takes(client: UpstreamClient) -> None:
    go = asyncio.Event()
    async with Playbook([Expect(), Until(go), Answer(200, b"late")]).on_stage() as upstream:
        call = asyncio.create_task(client.send(post(upstream), timeout=None, max_body=10))
        async with asyncio.timeout(5):
            while not upstream.requests:
                await asyncio.sleep(0.001)
        assert not call.done()
        go.set()
        assert (await call).body == b"late"


async def test_error_answers_and_redirects_are_answers(client: UpstreamClient) -> None:
    play = Playbook([Expect(), Answer(302, b"", {"Location": "http://127.0.0.1:1/"}), Expect(), Answer(500, b"oops")])
    async with play.on_stage() as upstream:
        assert (await client.send(post(upstream), timeout=5, max_body=10)).status == 302
        assert (await client.send(post(upstream), timeout=5, max_body=10)).body == b"oops"
    assert len(upstream.requests) == 2


async def test_gzip_nobody_asked_for_is_undone_within_the_bound(client: UpstreamClient) -> None:
    packed = {"Content-Encoding": "gzip"}
    play = Playbook(
        [
            Expect(),
            Answer(200, gzip.compress(b"x" * 1000), packed),
            Expect(),
            Answer(200, gzip.compress(b"x" * MB), packed),
        ]
    )
    async with play.on_stage() as upstream:
        response = await client.send(post(upstream), timeout=5, max_body=10_000)
        assert response.body == b"x" * 1000
        assert not {"content-encoding", "content-length"} & set(response.headers)
        with pytest.raises(UpstreamProtocol, match="unpacked"):
            await client.send(post(upstream), timeout=5, max_body=10_000)
    assert "accept-encoding" not in upstream.requests[0].headers


@pytest.mark.parametrize(
    "ending",
    [
        Answer(200, b"ok", {"Connection": "close"}),
        Send(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        Send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"),
        Send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\r\n\r\nx"),
    ],
)
async def test_a_connection_that_may_hold_more_is_never_used_again(client: UpstreamClient, ending: Line) -> None:
    play = Playbook([Expect(), ending, Gone()], [Expect(), Answer(200, b"clean")])
    async with play.on_stage() as upstream:
        assert (await client.send(post(upstream), timeout=5, max_body=10)).body == b"ok"
        assert (await client.send(post(upstream), timeout=5, max_body=10)).body == b"clean"
    assert upstream.connections == 2


async def test_bytes_on_an_idle_connection_end_it(client: UpstreamClient) -> None:
    go = asyncio.Event()
    poison = Send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
    play = Playbook([Expect(), Answer(200, b"ok"), Until(go), poison, Gone()], [Expect(), Answer(200, b"clean")])
    async with play.on_stage() as upstream:
        await client.send(post(upstream), timeout=5, max_body=10)
        await settled(client, open=1, idle=1)
        go.set()
        await settled(client)
        assert (await client.send(post(upstream), timeout=5, max_body=10)).body == b"clean"


async def test_an_answer_before_the_request_was_taken_ends_the_connection(client: UpstreamClient) -> None:
    """The rest of the body is still on its way: another request behind it would be read as part of it."""
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"
    done = asyncio.Event()
    async with Playbook([Hear(10), Send(refusal), Until(done)]).on_stage() as upstream:
        response = await client.send(post(upstream, b"x" * 32 * MB), timeout=5, max_body=10)
        assert (response.status, response.body) == (413, b"no")
        await settled(client)
        done.set()


# -- faults -----------------------------------------------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

FIELDS = Send(b"A: b\r\n" * 1000, None)

FAULTS: dict[str, tuple[list[Line], type[UpstreamError], str]] = {
    "closed before a byte": ([Expect(), Close()], UpstreamUnreachable, "closed before any answer"),
    "reset before a byte": ([Expect(), Reset()], UpstreamUnreachable, "before any answer"),
    "closed in the head": ([Expect(), Send(b"HTTP/1.1 200 O"), Close()], UpstreamUnreachable, "answer's head"),
    "length too long": ([Expect(), Send(HEAD + b"x" * 99), Close()], UpstreamUnreachable, "answer's body"),
    "no final chunk": ([Expect(), Head(), Chunk(b"hi"), Close()], UpstreamUnreachable, "answer's body"),
    "chunk cut": ([Expect(), Send(CHUNKED + b"5\r\nhi"), Close()], UpstreamUnreachable, "answer's body"),
    "reset in the body": ([Expect(), Send(HEAD + b"hi"), Stall(0.05), Reset()], UpstreamUnreachable, "answer's body"),
    "html": ([Expect(), Send(b"<html>")], UpstreamProtocol, "broken HTTP framing"),
    "switched protocols": ([Expect(), Send(b"HTTP/1.1 101 S\r\n\r\n")], UpstreamProtocol, "switched protocols"),
    "endless head": (
        [Expect(), Send(b"HTTP/1.1 200 OK\r\n"), FIELDS],
        UpstreamProtocol,
        "larger than",
    ),
    "declared 100 MB": ([Expect(), Send(b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n"), Gone()],
                        UpstreamProtocol, "larger than 1048576 bytes"),
    "endless body": ([Expect(), Send(CHUNKED), Send(b"10000\r\n" + b"x" * 65536 + b"\r\n", None)],
                     UpstreamProtocol, "larger than 1048576 bytes"),
    "endless trailers": ([Expect(), Send(CHUNKED + b"0\r\n"), FIELDS], UpstreamProtocol, "larger than"),
    "brotli": ([Expect(), Answer(200, b"x", {"Content-Encoding": "br"})], UpstreamProtocol, "not asked for"),
    "silent": ([Expect(), Gone()], UpstreamTimeout, "timed out after 300ms"),
    "slow head": ([Expect(), Send(b"HTTP/1.1 200 OK\r\n"), Gone()], UpstreamTimeout, "timed out after 300ms"),
    "stalled body": ([Expect(), Send(HEAD + b"hi"), Gone()], UpstreamTimeout, "timed out after 300ms"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_named_not_repeated_and_leaves_nothing(client: UpstreamClient, fault: str) -> None:
    lines, kind, words = FAULTS[fault]
    async with Playbook(lines).on_stage() as upstream:
        request = post(upstream, path="/v1/x?key=sk-secret")
        with pytest.raises(kind) as error:
            await client.send(request, timeout=0.3 if kind is UpstreamTimeout else 5, max_body=MB)
        assert words in error.value.message
        assert "sk-secret" not in error.value.message
        await settled(client, **({"open": 1, "idle": 1} if fault == "brotli" else {}))
    assert upstream.connections == 1


async def test_a_slow_but_steady_answer_is_bounded_as_a_whole(client: UpstreamClient) -> None:
    drip: list[Line] = [line for _ in range(100) for line in (Send(b"x"), Stall(0.02))]
    async with Playbook([Expect(), Send(HEAD), *drip]).on_stage() as upstream:
        with pytest.raises(UpstreamTimeout):
            await client.send(post(upstream), timeout=0.3, max_body=MB)


async def test_a_request_that_cannot_be_sent_touches_no_network(client: UpstreamClient) -> None:
    async with Playbook().on_stage() as upstream:
        request = UpstreamRequest(upstream.origin, "POST", "/x", (("x-a", "a\r\nb: c"),), b"")
        with pytest.raises(Misconfigured):
            await client.send(request, timeout=5, max_body=10)
        assert (upstream.connections, client.pools) == (0, 0)


# -- the one transparent retry ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [Close(), Reset()])
async def test_a_stale_connection_is_replaced_once(client: UpstreamClient, end: Line) -> None:
    play = Playbook([Expect(), Answer(200, b"1"), Expect(), end], [Expect(body=b"second"), Answer(200, b"2")])
    async with play.on_stage() as upstream:
        await client.send(post(upstream), timeout=5, max_body=10)
        assert (await client.send(post(upstream, b"second"), timeout=5, max_body=10)).body == b"2"
    assert [request.body for request in upstream.requests] == [b"{}", b"second", b"second"]


async def test_only_once(client: UpstreamClient) -> None:
    play = Playbook([Expect(), Answer(200, b"1"), Expect(), Close()], [Expect(), Close()])
    async with play.on_stage() as upstream:
        await client.send(post(upstream), timeout=5, max_body=10)
        with pytest.raises(UpstreamUnreachable, match="before any answer"):
            await client.send(post(upstream), timeout=5, max_body=10)
    assert upstream.connections == 2


async def test_not_over_a_second_stale_connection(client: UpstreamClient) -> None:
    """Two idle ones, both stale: the retry must not try its luck with the other."""
    ready, go = asyncio.Event(), asyncio.Event()
    first: list[Line] = [Expect(), Until(ready), Answer(200, b"1"), Expect(), Until(go), Close()]
    async with Playbook(first, first, [Expect(), Answer(200, b"3")]).on_stage() as upstream:
        calls = [asyncio.create_task(client.send(post(upstream), timeout=5, max_body=10)) for _ in range(2)]
        async with asyncio.timeout(5):
            while len(upstream.requests) < 2:
                await asyncio.sleep(0.001)
        ready.set()
        await asyncio.gather(*calls)
        go.set()
        assert (await client.send(post(upstream), timeout=5, max_body=10)).body == b"3"
        await settled(client, open=2, idle=2)


async def test_not_after_the_first_byte(client: UpstreamClient) -> None:
    play = Playbook([Expect(), Answer(200, b"1"), Expect(), Send(b"H"), Stall(0.02), Reset()])
    async with play.on_stage() as upstream:
        await client.send(post(upstream), timeout=5, max_body=10)
        with pytest.raises(UpstreamUnreachable, match="answer's head"):
            await client.send(post(upstream), timeout=5, max_body=10)
    assert upstream.connections == 1


async def test_not_when_the_provider_has_had_time_to_act(client: UpstreamClient) -> None:
    """A request that was read, and then dropped without an answer, may have cost money already."""
    play = Playbook([Expect(), Answer(200, b"1"), Expect(), Stall(RACE_SECONDS + 0.1), Close()])
    async with play.on_stage() as upstream:
        await client.send(post(upstream), timeout=5, max_body=10)
        with pytest.raises(UpstreamUnreachable, match="before any answer"):
            await client.send(post(upstream), timeout=5, max_body=10)
    assert (upstream.connections, len(upstream.requests)) == (1, 2)


async def test_not_after_a_deadline(client: UpstreamClient) -> None:
    async with Playbook([Expect(), Answer(200, b"1"), Expect(), Gone()]).on_stage() as upstream:
        await client.send(post(upstream), timeout=5, max_body=10)
        with pytest.raises(UpstreamTimeout):
            await client.send(post(upstream), timeout=0.2, max_body=10)
    assert upstream.connections == 1


async def test_the_deadline_counts_from_the_first_try(client: UpstreamClient) -> None:
    """The stale connection costs time; what is left is for the second, and the message tells the whole."""
    stale: list[Line] = [Expect(), Answer(200, b"1"), Expect(), Stall(0.02), Close()]
    async with Playbook(stale, [Expect(), Gone()]).on_stage() as upstream:
        await client.send(post(upstream), timeout=5, max_body=10)
        begun = asyncio.get_running_loop().time()
        with pytest.raises(UpstreamTimeout, match="after 300ms"):
            await client.send(post(upstream), timeout=0.3, max_body=10)
        assert asyncio.get_running_loop().time() - begun < 1


# -- streams ----------------------------------------------------------------------------------------------------------


async def test_a_stream_is_read_as_it_comes(client: UpstreamClient) -> None:
    go, on = asyncio.Event(), asyncio.Event()
    play = Playbook([Expect(), Head(), Chunk(b"a"), Until(go), Chunk(b"b"), Chunk(b"c"), Until(on), End()])
    async with play.on_stage() as upstream:
        stream = await client.open(post(upstream), timeout=5)
        assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream")
        assert await stream.read(5) == b"a"
        assert await stream.read(0) is None
        assert await stream.read(0.02) is None
        assert not stream.complete
        go.set()
        got = b""
        while len(got) < 2:
            got += await stream.read(5) or b""
        assert got == b"bc"
        on.set()
        assert await stream.read(5) == b""
        assert await stream.read(5) == b""
        assert stream.complete
        stream.close()
        await settled(client, open=1, idle=1)


async def test_a_stream_without_a_wait_has_no_deadline_of_the_head(client: UpstreamClient) -> None:
    """The deadline of `open` ends with the head: a later read is bounded by its own wait only."""
    play = Playbook([Expect(), Head(), Stall(0.3), Chunk(b"late"), End()])
    async with play.on_stage() as upstream:
        stream = await client.open(post(upstream), timeout=0.15)
        assert await stream.read(None) == b"late"
        assert await drain(stream) == b""


async def test_many_short_waits_then_data(client: UpstreamClient) -> None:
    go = asyncio.Event()
    async with Playbook([Expect(), Head(), Until(go), Chunk(b"x"), End()]).on_stage() as upstream:
        stream = await client.open(post(upstream), timeout=5)
        for wait in (0.01, 0.005, 0.02):
            assert await stream.read(wait) is None
        go.set()
        assert await drain(stream) == b"x"


async def test_framing_that_drips_does_not_stretch_a_wait(client: UpstreamClient) -> None:
    drip: list[Line] = [line for _ in range(100) for line in (Send(b"x"), Stall(0.02))]
    async with Playbook([Expect(), Head(), Send(b"5;"), *drip]).on_stage() as upstream:
        stream = await client.open(post(upstream), timeout=5)
        begun = asyncio.get_running_loop().time()
        assert await stream.read(0.1) is None
        assert asyncio.get_running_loop().time() - begun < 0.5
        stream.close()


@pytest.mark.parametrize(
    ("rest", "kind"),
    [
        ([Close()], UpstreamAborted),
        ([Stall(0.05), Reset()], UpstreamAborted),
        ([Send(b"zz")], UpstreamProtocol),
    ],
)
async def test_a_broken_stream_gives_its_bytes_first(
    client: UpstreamClient, rest: list[Line], kind: type[UpstreamError]
) -> None:
    async with Playbook([Expect(), Head(), Chunk(b"half"), *rest]).on_stage() as upstream:
        stream = await client.open(post(upstream), timeout=5)
        await settled(client)
        assert await stream.read(5) == b"half"
        for _ in range(2):
            with pytest.raises(kind):
                await stream.read(5)
        stream.close()


async def test_a_stream_of_unknown_length_ends_with_its_connection(client: UpstreamClient) -> None:
    play = Playbook([Expect(), Send(b"HTTP/1.1 200 OK\r\n\r\ndata: a\n\n"), Close()])
    async with play.on_stage() as upstream:
        assert await drain(await client.open(post(upstream), timeout=5)) == b"data: a\n\n"


async def test_a_silent_head_is_a_timeout(client: UpstreamClient) -> None:
    async with Playbook([Expect(), Gone()]).on_stage() as upstream:
        with pytest.raises(UpstreamTimeout, match="after 200ms"):
            await client.open(post(upstream), timeout=0.2)
        await upstream.over.wait()
        await settled(client)


async def test_an_encoded_stream_is_refused(client: UpstreamClient) -> None:
    play = Playbook([Expect(), Head(200, {"Content-Encoding": "gzip"}), Gone()])
    async with play.on_stage() as upstream:
        with pytest.raises(UpstreamProtocol, match="not asked for"):
            await client.open(post(upstream), timeout=5)
        await settled(client)


async def test_close_cuts_an_unfinished_stream_at_once(client: UpstreamClient) -> None:
    async with Playbook([Expect(), Head(), Chunk(b"a"), Gone()]).on_stage() as upstream:
        stream = await client.open(post(upstream), timeout=5)
        stream.close()
        stream.close()
        async with asyncio.timeout(5):
            await upstream.over.wait()
        await settled(client)
        with pytest.raises(UpstreamAborted):
            await stream.read(5)


async def test_closing_a_finished_stream_does_not_touch_the_next_exchange(client: UpstreamClient) -> None:
    play = Playbook([Expect(), Head(), Chunk(b"a"), End(), Expect(), Head(), Chunk(b"b"), End()])
    async with play.on_stage() as upstream:
        first = await client.open(post(upstream), timeout=5)
        await settled(client, open=1, idle=1)
        second = await client.open(post(upstream), timeout=5)
        assert await drain(first) == b"a"
        first.close()
        assert await drain(second) == b"b"
    assert upstream.connections == 1


async def test_a_slow_reader_bounds_what_is_kept(client: UpstreamClient) -> None:
    """An endless upstream is read only as far as somebody reads: what it could send stops growing."""
    endless = Send(b"2000\r\n" + b"x" * 8192 + b"\r\n", None)
    async with Playbook([Expect(), Head(), endless]).on_stage() as upstream:
        stream = await client.open(post(upstream), timeout=5)
        await held_back(stream, upstream)
        first = await stream.read(5)
        assert first is not None
        assert HIGH_WATER < len(first) <= HIGH_WATER + 256 * 1024  # the mark, and one read of the loop
        total = len(first)
        while total < 20 * MB:  # reading on makes it flow again
            data = await stream.read(5)
            assert data
            total += len(data)
        stream.close()
        await settled(client)


async def test_followed_a_stream_comes_by_itself(client: UpstreamClient) -> None:
    go = asyncio.Event()
    async with Playbook([Expect(), Head(), Chunk(b"a"), Until(go), Chunk(b"b"), End()]).on_stage() as upstream:
        stream = await client.open(post(upstream), timeout=0.3)
        got: list[bytes] = []
        over = asyncio.Event()

        def follower() -> None:
            got.append(stream.take())
            if stream.complete:
                over.set()

        stream.follow(follower)
        await asyncio.sleep(0.4)  # the deadline of the head is over, and means nothing any more
        go.set()
        async with asyncio.timeout(5):
            await over.wait()
        assert b"".join(got) == b"ab"
        assert stream.error is None
        stream.follow(None)
        stream.close()
        await settled(client, open=1, idle=1)


async def test_followed_too_a_stream_that_nobody_takes_is_bounded(client: UpstreamClient) -> None:
    endless = Send(b"2000\r\n" + b"x" * 8192 + b"\r\n", None)
    async with Playbook([Expect(), Head(), endless]).on_stage() as upstream:
        stream = await client.open(post(upstream), timeout=5)
        stream.follow(lambda: None)
        await held_back(stream, upstream)
        assert HIGH_WATER < len(stream.take()) <= HIGH_WATER + 256 * 1024
        stream.close()
        await settled(client)


async def test_a_stream_that_is_left_may_end_in_its_own_time(client: UpstreamClient) -> None:
    play = Playbook(
        [Expect(), Head(), Chunk(b"a"), Stall(0.05), Chunk(b": bye\n\n"), End(), Expect(), Answer(200, b"b")]
    )
    async with play.on_stage() as upstream:
        stream = await client.open(post(upstream), timeout=5)
        assert await stream.read(5) == b"a"
        stream.leave(5)
        stream.close()
        await settled(client, open=1, idle=1)
        assert (await client.send(post(upstream), timeout=5, max_body=10)).body == b"b"
    assert upstream.connections == 1


@pytest.mark.parametrize("rest", [[], [Stall(0.05), Send(b"8000\r\n" + b"x" * 0x8000)], [Stall(0.05), Send(b"zz")]])
async def test_a_stream_that_is_left_and_does_not_end_is_cut(client: UpstreamClient, rest: list[Line]) -> None:
    async with Playbook([Expect(), Head(), Chunk(b"a"), *rest, Gone()]).on_stage() as upstream:
        stream = await client.open(post(upstream), timeout=5)
        assert await stream.read(5) == b"a"
        stream.leave(5 if rest else 0.05)
        async with asyncio.timeout(4):
            await upstream.over.wait()
        await settled(client)


async def test_an_answer_that_ends_with_its_connection_is_not_waited_for(client: UpstreamClient) -> None:
    play = Playbook([Expect(), Send(b"HTTP/1.1 200 OK\r\n\r\ndata: a\n\n"), Gone()])
    async with play.on_stage() as upstream:
        stream = await client.open(post(upstream), timeout=5)
        await stream.read(5)
        stream.leave(60)
        async with asyncio.timeout(4):
            await upstream.over.wait()
        await settled(client)


# -- callers that leave -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [[], [Send(b"HTTP/1.1 200 OK\r\nContent-Le")], [Send(HEAD + b"hi")]])
async def test_a_cancelled_call_closes_its_connection(client: UpstreamClient, said: list[Line]) -> None:
    async with Playbook([Expect(), *said, Gone()]).on_stage() as upstream:
        call = asyncio.create_task(client.send(post(upstream), timeout=60, max_body=MB))
        async with asyncio.timeout(5):
            while not upstream.requests:
                await asyncio.sleep(0.001)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        async with asyncio.timeout(5):
            await upstream.over.wait()
        await settled(client)


async def test_a_cancelled_read_closes_its_connection(client: UpstreamClient) -> None:
    async with Playbook([Expect(), Head(), Gone()]).on_stage() as upstream:
        stream = await client.open(post(upstream), timeout=5)
        read = asyncio.create_task(stream.read(None))
        await asyncio.sleep(0)
        read.cancel()
        with pytest.raises(asyncio.CancelledError):
            await read
        async with asyncio.timeout(5):
            await upstream.over.wait()
        await settled(client)


def sockets() -> int:
    return sum(
        os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")
        for fd in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{fd}")
    )


async def test_a_thousand_callers_that_leave_at_any_moment_leave_nothing(client: UpstreamClient) -> None:
    lines: list[Line] = [Expect(), Head(), *(Chunk(b"data: x\n\n") for _ in range(5)), Gone()]

    async def caller(upstream: Upstream, turns: int) -> None:
        task = asyncio.create_task(consume(upstream))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def consume(upstream: Upstream) -> None:
        stream = await client.open(post(upstream), timeout=30)
        while await stream.read(None):
            pass

    before = sockets()
    async with Playbook(lines, forever=True).on_stage() as upstream:
        tasks = len(asyncio.all_tasks())
        for batch in range(10):
            await asyncio.gather(*(caller(upstream, turns=(batch * 100 + n) // 7) for n in range(100)))
        await settled(client)
        async with asyncio.timeout(10):
            while len(asyncio.all_tasks()) > tasks:
                await asyncio.sleep(0.01)
        assert client.pools == 0
    async with asyncio.timeout(5):
        while sockets() > before:
            await asyncio.sleep(0.01)


async def test_closing_the_client_ends_what_is_under_way_and_refuses_more() -> None:
    from aisix_common.settings import Upstream as Settings

    client = UpstreamClient(Settings())
    async with Playbook([Expect(), Gone()], [Expect(), Head(), Gone()]).on_stage() as upstream:
        call = asyncio.create_task(client.send(post(upstream), timeout=60, max_body=10))
        async with asyncio.timeout(5):
            while not upstream.requests:
                await asyncio.sleep(0.001)
        stream = await client.open(post(upstream), timeout=5)
        await client.aclose()
        with pytest.raises(UpstreamUnreachable):
            await call
        with pytest.raises(UpstreamAborted):
            await stream.read(5)
        with pytest.raises(UpstreamUnreachable, match="shutting down"):
            await client.send(post(upstream), timeout=5, max_body=10)
        await client.aclose()
    assert (client.open_connections, client.idle, client.pools) == (0, 0, 0)
