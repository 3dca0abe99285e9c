"""The delivery loop on the loop's own clock: heartbeats, deadlines, slow readers."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from aisix_common.settings.listeners import Downstream
from aisix_proxy.canonical.errors import UpstreamAborted, UpstreamError
from aisix_proxy.dialects import DIALECT
from aisix_proxy.pipeline.deliver import LONGEST_STREAM, LOOK_SECONDS, STALL_SECONDS, ReaderStalled, deliver
from aisix_proxy.pipeline.exchange import Attempt, Exchange, Reply, Streaming
from aisix_proxy.pipeline.pump import HEARTBEAT

from tests.support.builders import World, chat, exchange_of, make, recorder, settings_of, standard

CHUNK = b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


@dataclass
class Script:
    """An upstream stream: (seconds of silence, bytes or an error) in turn, then silence for ever.

    The silence before a step begins when the step before it was taken.
    """

    steps: list[Any]
    closed: int = 0
    left: float = 0.0
    taken: int = 0
    status: int = 200
    complete: bool = False
    error: UpstreamError | None = None
    headers: dict[str, str] = field(default_factory=dict)
    _here: bytes = b""
    _follower: Callable[[], None] | None = None
    _timer: asyncio.TimerHandle | None = None

    def follow(self, follower: Callable[[], None] | None) -> None:
        self._follower = follower
        if follower is not None and (self._here or self.complete or self.error):
            follower()
        elif follower is None and self._timer is not None:
            self._timer.cancel()
        elif self._timer is None:
            self._next()

    def _next(self) -> None:
        self._timer = None
        if self._follower is not None and self.steps and not self._here:
            self._timer = asyncio.get_running_loop().call_later(self.steps[0][0], self._play)

    def _play(self) -> None:
        self._timer = None
        _, what = self.steps.pop(0)
        if isinstance(what, UpstreamError):
            self.error = what
        else:
            self._here, self.complete = what, not what
        if self._follower is not None:
            self._follower()

    def take(self) -> bytes:
        here, self._here = self._here, b""
        self.taken += bool(here)
        self._next()
        return here

    def leave(self, seconds: float) -> None:
        self.left = seconds

    def close(self) -> None:
        self.closed += 1


async def streaming(script: Script, world: World | None = None, **model: Any) -> Exchange:
    world = world or make(standard(**model))
    exchange = exchange_of(world, body=chat(stream=True))
    compiled = world.services.live.compiled.model("demo-model")
    assert compiled is not None
    assert compiled.target is not None
    exchange.request = DIALECT["openai-chat"].read(b'{"model":"demo-model","stream":true,"messages":[{"role":"user"}]}')
    exchange.attempts.append(Attempt(compiled, "initial"))
    exchange.relay = DIALECT["openai-chat"].relay(exchange.request, compiled.target)
    exchange.answer = Streaming(script, exchange.relay, b"")  # type: ignore[arg-type]
    return exchange


async def test_a_reply_is_one_write() -> None:
    exchange = exchange_of(make(standard()))
    exchange.answer = Reply(200, b"X: y\r\n", b"body")
    await deliver(exchange)
    assert (recorder(exchange).writes, exchange.status) == ([b"body"], 200)


async def test_nothing_answered_is_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError):
        await deliver(exchange_of(make(standard())))


@pytest.mark.looptime
async def test_a_heartbeat_each_interval_of_silence() -> None:
    exchange = await streaming(Script([(1, CHUNK), (50, DONE)]))
    beats: list[float] = []
    loop = asyncio.get_running_loop()
    begun = loop.time()
    recorder(exchange).on_write = lambda data: beats.append(loop.time() - begun) if data == HEARTBEAT else None
    await deliver(exchange)
    assert [round(beat) for beat in beats] == [16, 31, 46]
    assert recorder(exchange).finished


@pytest.mark.looptime
async def test_an_upstream_that_only_comments_does_not_keep_the_caller_silent() -> None:
    exchange = await streaming(Script([(5, b": thinking\n\n")] * 8 + [(1, DONE)]))
    await deliver(exchange)
    assert recorder(exchange).writes[:-1] == [HEARTBEAT] * 2  # of 41 seconds; the comments themselves are not passed on
    assert b"thinking" not in recorder(exchange).body


@pytest.mark.looptime
async def test_no_heartbeats_when_turned_off() -> None:
    world = make(standard(), settings=settings_of(downstream=Downstream(sse_keepalive_interval_secs=0)))
    exchange = await streaming(Script([(100, DONE)]), world)
    await deliver(exchange)
    assert HEARTBEAT not in recorder(exchange).writes


@pytest.mark.looptime
async def test_the_gap_is_measured_from_the_last_bytes_not_from_heartbeats() -> None:
    script = Script([(10, CHUNK), (1e6, b"")])
    exchange = await streaming(script, stream_timeout=40_000)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await deliver(exchange)
    assert loop.time() - begun == pytest.approx(50, abs=0.1)
    assert recorder(exchange).writes.count(HEARTBEAT) == 2
    assert b"timed out after 40000ms" in recorder(exchange).writes[-1]
    assert exchange.status == 200
    assert exchange.error is not None
    assert script.closed == 1


@pytest.mark.looptime
async def test_a_stream_that_never_ends_is_ended() -> None:
    exchange = await streaming(Script([(30, CHUNK)] * 1000))
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await deliver(exchange)
    assert loop.time() - begun == pytest.approx(6000, abs=31)
    assert b"event: error" in recorder(exchange).writes[-1]


async def test_a_break_is_told_and_recorded() -> None:
    exchange = await streaming(Script([(0, CHUNK), (0, UpstreamAborted())]))
    await deliver(exchange)
    assert b"stream_aborted" in recorder(exchange).body
    assert b"[DONE]" not in recorder(exchange).body
    assert exchange.attempts[-1].error is exchange.error is not None


async def test_what_comes_after_the_end_is_not_waited_for() -> None:
    exchange = await streaming(Script([(0, CHUNK + DONE), (1e6, b"")]))
    await asyncio.wait_for(deliver(exchange), 2)
    assert recorder(exchange).body.endswith(DONE)


@pytest.mark.looptime
async def test_a_slow_reader_stops_the_reading() -> None:
    script = Script([(0, CHUNK)] * 5 + [(0, DONE)])
    exchange = await streaming(script)
    downstream = recorder(exchange)
    downstream.paused = True
    loop = asyncio.get_running_loop()
    loop.call_later(30, downstream.drained.set)
    await deliver(exchange)
    assert loop.time() >= 30
    assert downstream.finished


@pytest.mark.looptime
async def test_a_reader_that_takes_nothing_is_dropped() -> None:
    script = Script([(0, CHUNK)] * 5)
    exchange = await streaming(script)
    recorder(exchange).paused = True
    loop = asyncio.get_running_loop()
    begun = loop.time()
    with pytest.raises(ReaderStalled):
        await deliver(exchange)
    assert loop.time() - begun == pytest.approx(STALL_SECONDS, abs=0.1)
    assert recorder(exchange).aborted
    assert script.closed == 1
    assert script.taken == 1


@pytest.mark.looptime
async def test_a_steady_reader_may_be_as_slow_as_it_likes() -> None:
    exchange = await streaming(Script([(0, CHUNK), (0, DONE)]))
    downstream, loop = recorder(exchange), asyncio.get_running_loop()
    downstream.paused, downstream.unsent = True, 1000

    def take() -> None:
        downstream.unsent -= 1

    for minute in range(10):
        loop.call_later(minute * 55 + 1, take)
    loop.call_later(540, downstream.drained.set)
    await deliver(exchange)
    assert loop.time() >= 540
    assert downstream.finished
    assert not downstream.aborted


@pytest.mark.looptime
@pytest.mark.parametrize(("taken", "dropped"), [(3, 3 * 55 + STALL_SECONDS), (1000, LONGEST_STREAM)])
async def test_a_reader_is_dropped_a_minute_after_what_it_took_last_or_when_it_never_ends(
    taken: int, dropped: float
) -> None:
    exchange = exchange_of(make(standard()))
    exchange.answer = Reply(200, b"", b"body")
    downstream, loop = recorder(exchange), asyncio.get_running_loop()
    downstream.paused, downstream.unsent = True, 5000

    def take() -> None:
        downstream.unsent -= 1

    for turn in range(1, taken + 1):
        loop.call_later(turn * 55, take)
    begun = loop.time()
    with pytest.raises(ReaderStalled):
        await deliver(exchange)
    assert loop.time() - begun == pytest.approx(dropped, abs=LOOK_SECONDS + 0.1)
    assert downstream.aborted
