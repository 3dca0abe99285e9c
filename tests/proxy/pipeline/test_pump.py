"""The pump by itself: what it does within one call of its stream, and what time makes it do."""

import asyncio
from collections.abc import Callable

import pytest

from aisix_proxy.canonical.errors import UpstreamAborted, UpstreamError, UpstreamTimeout
from aisix_proxy.dialects import DIALECT
from aisix_proxy.pipeline.exchange import Attempt, Exchange, Streaming
from aisix_proxy.pipeline.pump import HEARTBEAT, NEVER, Pace, Pump

from tests.support.builders import exchange_of, make, recorder, standard

CHUNK = b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
FINAL = CHUNK.replace(b'"delta":{"content":"x"}', b'"delta":{},"finish_reason":"stop"')
DONE = b"data: [DONE]\n\n"
QUIET = Pace(NEVER, NEVER, NEVER)


class Stream:
    """An upstream stream that the test plays on."""

    def __init__(self) -> None:
        self.here = b""
        self.complete = False
        self.error: UpstreamError | None = None
        self.follower: Callable[[], None] | None = None

    def follow(self, follower: Callable[[], None] | None) -> None:
        self.follower = follower
        if follower is not None and (self.here or self.complete or self.error):
            follower()

    def take(self) -> bytes:
        here, self.here = self.here, b""
        return here

    def say(self, data: bytes = b"", *, complete: bool = False, error: UpstreamError | None = None) -> None:
        self.here += data
        self.complete, self.error = complete, error
        assert self.follower is not None
        self.follower()


def pumping(pace: Pace = QUIET) -> tuple[Pump, Stream, Exchange]:
    exchange, stream = exchange_of(make(standard())), Stream()
    model = exchange.services.live.compiled.model("demo-model")
    assert model is not None
    assert model.target is not None
    exchange.attempts.append(Attempt(model, "initial"))
    request = DIALECT["openai-chat"].read(b'{"model":"demo-model","stream":true,"messages":[{"role":"user"}]}')
    exchange.relay = DIALECT["openai-chat"].relay(request, model.target)
    return Pump(exchange, Streaming(stream, exchange.relay, b""), pace), stream, exchange  # type: ignore[arg-type]


async def test_what_comes_is_written_before_the_call_returns() -> None:
    pump, stream, exchange = pumping()
    pump.start(b"")
    assert exchange.first_byte == 0
    stream.say(CHUNK)
    assert recorder(exchange).body.count(b"data: ") == 1
    assert exchange.first_byte > 0
    stream.say(CHUNK + DONE)
    assert await pump.turn is False
    assert recorder(exchange).body.count(b"data: ") == 1, "its end is not the pump's to write"
    assert pump.last.endswith(DONE)


async def test_what_was_read_before_goes_first_and_may_be_all() -> None:
    pump, stream, exchange = pumping()
    assert exchange.relay is not None
    pump.start(exchange.relay.feed(CHUNK + DONE))
    assert await pump.turn is False
    assert recorder(exchange).writes == [], "its events come first"
    assert pump.last.startswith(b"data: {")
    assert pump.last.endswith(DONE)
    assert stream.follower is None
    pump, _, exchange = pumping()
    assert exchange.relay is not None
    pump.start(exchange.relay.feed(CHUNK))
    assert recorder(exchange).body.count(b"data: ") == 1


async def test_the_head_goes_alone_only_where_nothing_is_there_to_go_with_it() -> None:
    pump, _, exchange = pumping()
    pump.start(b"")
    assert recorder(exchange).pushed
    pump, stream, exchange = pumping()
    stream.here = CHUNK + DONE
    pump.start(b"")
    assert await pump.turn is False
    assert not recorder(exchange).pushed
    assert recorder(exchange).writes == []
    assert pump.last.count(b"data: ") == 2


async def test_an_answer_without_end_marker_is_given_one_if_it_was_complete() -> None:
    pump, stream, _ = pumping()
    pump.start(b"")
    stream.say(FINAL, complete=True)
    assert await pump.turn is False
    assert pump.last.endswith(DONE)
    pump, stream, _ = pumping()
    pump.start(b"")
    stream.say(CHUNK, complete=True)
    with pytest.raises(UpstreamAborted):
        await pump.turn


async def test_bytes_before_a_break_are_written() -> None:
    pump, stream, exchange = pumping()
    pump.start(b"")
    stream.say(CHUNK, error=UpstreamAborted())
    assert recorder(exchange).writes
    with pytest.raises(UpstreamAborted):
        await pump.turn


async def test_while_the_reader_is_behind_everything_waits_in_the_stream() -> None:
    pump, stream, exchange = pumping(Pace(0.01, 0.01, NEVER))
    downstream = recorder(exchange)
    pump.start(b"")
    downstream.paused = True
    stream.say(CHUNK)
    assert await pump.turn is True
    stream.say(CHUNK + DONE)
    await asyncio.sleep(0.03)  # no heartbeat, and no deadline: it is not the provider who is silent
    assert len(downstream.writes) == 1
    downstream.paused = False
    pump.go_on()
    assert await pump.turn is False
    assert pump.last.endswith(DONE)


async def test_a_caller_that_left_is_told_to_the_one_who_waits() -> None:
    pump, stream, exchange = pumping()

    def gone(data: bytes) -> None:
        raise ConnectionResetError

    recorder(exchange).on_write = gone
    pump.start(b"")
    stream.say(CHUNK)
    with pytest.raises(ConnectionResetError):
        await pump.turn
    stream.say(CHUNK)


@pytest.mark.looptime
async def test_a_caller_that_left_is_noticed_at_a_heartbeat() -> None:
    pump, _, exchange = pumping(Pace(1.0, NEVER, NEVER))

    def gone(data: bytes) -> None:
        raise ConnectionResetError

    recorder(exchange).on_write = gone
    pump.start(b"")
    with pytest.raises(ConnectionResetError):
        await pump.turn


@pytest.mark.looptime
async def test_the_bytes_of_the_last_moment_are_not_lost() -> None:
    pump, stream, exchange = pumping(Pace(NEVER, NEVER, 10.0))
    asyncio.get_running_loop().call_at(asyncio.get_running_loop().time() + 10.0, stream.say, CHUNK)
    pump.start(b"")
    with pytest.raises(UpstreamTimeout, match="10000ms"):
        await pump.turn
    assert recorder(exchange).body.count(b"data: ") == 1


@pytest.mark.looptime
async def test_one_timer_for_all_deadlines() -> None:
    pump, stream, exchange = pumping(Pace(15.0, 40.0, NEVER))
    loop = asyncio.get_running_loop()
    pump.start(b"")
    for second in range(1, 30):
        loop.call_later(second, stream.say, CHUNK)
    with pytest.raises(UpstreamTimeout, match="40000ms"):
        await pump.turn
    assert loop.time() == pytest.approx(69, abs=0.1)
    assert recorder(exchange).writes.count(HEARTBEAT) == 2
    assert len(recorder(exchange).writes) == 31


@pytest.mark.looptime
async def test_comments_do_not_put_off_the_end_of_a_silent_provider() -> None:
    pump, stream, exchange = pumping(Pace(NEVER, 10.0, NEVER))
    loop = asyncio.get_running_loop()
    pump.start(b"")
    loop.call_later(5, stream.say, CHUNK)
    for second in range(6, 60):
        loop.call_later(second, stream.say, b": thinking\n\n")
    with pytest.raises(UpstreamTimeout, match="10000ms"):
        await pump.turn
    assert loop.time() == pytest.approx(15, abs=0.1)
    assert recorder(exchange).body.count(b"data: ") == 1


@pytest.mark.looptime
async def test_a_stopped_pump_hears_nothing() -> None:
    pump, stream, exchange = pumping(Pace(1.0, NEVER, NEVER))
    pump.start(b"")
    pump.stop()
    assert stream.follower is None
    await asyncio.sleep(5)
    assert recorder(exchange).writes == []
