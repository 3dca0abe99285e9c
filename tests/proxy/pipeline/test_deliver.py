"""The delivery loop on the loop's own clock: heartbeats, deadlines, slow readers."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from aisix_common.settings.listeners import Downstream
from aisix_proxy.canonical.errors import UpstreamAborted
from aisix_proxy.dialects import DIALECT
from aisix_proxy.pipeline.deliver import HEARTBEAT, STALL_SECONDS, ReaderStalled, deliver
from aisix_proxy.pipeline.exchange import Attempt, Exchange, Reply, Streaming

from tests.support.builders import World, chat, exchange_of, make, recorder, settings_of, standard

CHUNK = b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


@dataclass
class Script:
    """An upstream stream: (seconds of silence, bytes or an error) in turn, then silence for ever."""

    steps: list[Any]
    closed: int = 0
    waits: list[float | None] = field(default_factory=list)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    async def read(self, wait: float | None) -> bytes | None:
        self.waits.append(wait)
        silence, what = self.steps[0] if self.steps else (1e9, b"")
        if wait is not None and wait < silence:
            await asyncio.sleep(wait)
            if self.steps:
                self.steps[0] = (silence - wait, what)
            return None
        await asyncio.sleep(silence)
        self.steps.pop(0)
        if isinstance(what, BaseException):
            raise what
        return bytes(what)

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
    assert HEARTBEAT in recorder(exchange).writes or b"thinking" in recorder(exchange).body


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
    assert len(script.waits) == 1
