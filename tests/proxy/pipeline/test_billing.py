"""Usage events come before the last byte of an answer, exactly once, however the exchange ends (design 9)."""

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
from structlog.testing import capture_logs

from aisix_proxy.canonical.errors import GatewayError
from aisix_proxy.pipeline import CHAT
from aisix_proxy.pipeline.exchange import Exchange
from aisix_proxy.pipeline.runner import run
from aisix_proxy.telemetry.usage_event import UsageEvent

from tests.proxy.pipeline.test_dialogues import DONE, OK, event, usage_event
from tests.support.builders import KEY, World, chat, exchange_of, make, recorder, serving, standard, until
from tests.support.playbook import Answer, Chunk, End, Expect, Gone, Head, Line, Playbook, Reset, Stall
from tests.support.raw_http import ask, request

SILENT = OK.replace(b'"usage"', b'"not_usage"')
FAILED = b'data: {"error":{"message":"out of luck","type":"server_error"}}\n\n'
OPENED: list[Line] = [Expect(), Head(), Chunk(event("he"))]


class Watching:
    """A sink that sees how far the answer was when an event came."""

    def __init__(self) -> None:
        self.exchange: Exchange | None = None
        self.events: list[UsageEvent] = []
        self.sent: list[bytes] = []

    def record(self, event: UsageEvent) -> None:
        assert self.exchange is not None
        downstream = recorder(self.exchange)
        assert not downstream.finished, "the answer is over already"
        self.events.append(event)
        self.sent.append(downstream.body)


def scene(base: str, sinks: Any, **fields: Any) -> tuple[World, Exchange]:
    world = make(standard(base, retries=0), sinks=sinks)
    return world, exchange_of(world, body=chat(**fields))


async def close(world: World) -> None:
    await until(lambda: world.lifecycle.in_flight == 0)
    await world.services.upstream.aclose()  # type: ignore[attr-defined]  # the real client


async def play(lines: Sequence[Line], **fields: Any) -> tuple[Watching, Exchange, World]:
    sink = Watching()
    async with Playbook(lines).on_stage() as upstream:
        world, exchange = scene(f"http://127.0.0.1:{upstream.origin.port}/v1", (sink,), **fields)
        sink.exchange = exchange
        with suppress(GatewayError):
            await run(exchange, CHAT)
        await close(world)
    return sink, exchange, world


@pytest.mark.parametrize(
    ("lines", "fields", "status", "estimated"),
    [
        ([Expect(), Answer(200, OK)], {}, 200, False),
        ([Expect(), Answer(200, SILENT)], {}, 200, True),
        ([Expect(), Answer(500)], {}, 502, False),
        ([*OPENED, Chunk(usage_event() + DONE), End()], {"stream": True}, 200, False),
        ([*OPENED, Chunk(usage_event()), Chunk(DONE), End()], {"stream": True}, 200, False),
        ([*OPENED, Chunk(event(finish_reason="stop")), End()], {"stream": True}, 200, True),
        ([*OPENED, Chunk(DONE), End()], {"stream": True}, 200, True),
        ([*OPENED, Chunk(DONE), End()], {"stream": True, "stream_options": {"include_usage": True}}, 200, True),
        ([*OPENED, Chunk(FAILED), Gone()], {"stream": True}, 200, True),
        ([*OPENED, Stall(0.02), Reset()], {"stream": True}, 200, True),
        ([Expect(), Head(), Chunk(DONE), End()], {"stream": True}, 200, True),
        ([Expect(), Answer(429)], {"stream": True}, 429, False),
    ],
)
async def test_events_are_recorded_before_the_last_byte(
    lines: list[Line], fields: dict[str, Any], status: int, estimated: bool
) -> None:
    sink, exchange, world = await play(lines, **fields)
    (recorded,) = sink.events
    assert (recorded.status_code, recorded.usage_estimated) == (status, estimated)
    (sent,) = sink.sent
    assert b"[DONE]" not in sent
    assert b"event: error" not in sent
    assert recorder(exchange).committed is (status == 200), "an error before the head is the edge's to show"
    if status == 200:
        assert recorder(exchange).finished
        assert len(recorder(exchange).body) > len(sent)
    assert len(world.lines) == 1
    assert world.value("aisix_usage_events_emitted_total") == 1
    total = recorded.prompt_tokens + recorded.completion_tokens
    assert world.lines[0].get("total_tokens", 0) == total, "the log tells the same"


@pytest.mark.parametrize("end", [DONE, b""])
async def test_a_whole_answer_in_the_first_bytes_waits_for_its_event_too(end: bytes) -> None:
    sink = Watching()
    lines: list[Line] = [
        Expect(),
        Head(),
        Chunk(event("he") + event(finish_reason="stop") + usage_event() + end),
        End(),
    ]
    async with Playbook(lines).on_stage() as upstream:
        base = f"http://127.0.0.1:{upstream.origin.port}/v1"
        world = make(standard(base, retries=0, stream_timeout=5000), sinks=(sink,))
        sink.exchange = exchange = exchange_of(world, body=chat(stream=True))
        await run(exchange, CHAT)
        await close(world)
    assert len(sink.events) == 1
    assert b"[DONE]" not in sink.sent[0]
    assert recorder(exchange).body.endswith(DONE)


def held_up(world: World) -> threading.Event:
    """Nothing is counted until this is set."""
    go = threading.Event()
    world.services.counter.begin(lambda: go.wait(10), 1)
    return go


@pytest.mark.parametrize("usage_is_asked_for", [False, True])
async def test_an_answer_whose_tokens_are_being_counted_is_not_over(usage_is_asked_for: bool) -> None:
    sink = Watching()
    options = {"stream_options": {"include_usage": usage_is_asked_for}}
    async with Playbook([*OPENED, Chunk(DONE), End()]).on_stage() as upstream:
        world, exchange = scene(f"http://127.0.0.1:{upstream.origin.port}/v1", (sink,), stream=True, **options)
        sink.exchange = exchange
        go = held_up(world)
        running = asyncio.ensure_future(run(exchange, CHAT))
        await until(lambda: exchange.relay is not None and exchange.relay.ended)
        await asyncio.sleep(0.02)
        assert not running.done()
        assert b"[DONE]" not in recorder(exchange).body
        go.set()
        await running
        await close(world)
    assert recorder(exchange).body.endswith(DONE)
    assert len(sink.events) == 1


async def test_nobody_waits_for_a_count_that_no_event_needs() -> None:
    async with Playbook([*OPENED, Chunk(DONE), End()]).on_stage() as upstream:
        world, exchange = scene(f"http://127.0.0.1:{upstream.origin.port}/v1", (), stream=True)
        go = held_up(world)
        await run(exchange, CHAT)
        assert recorder(exchange).finished
        assert world.lines == []
        go.set()
        await close(world)
    assert len(world.lines) == 1


async def test_a_caller_that_leaves_while_its_tokens_are_counted_has_its_event_once() -> None:
    sink = Watching()
    async with Playbook([*OPENED, Chunk(DONE), End()]).on_stage() as upstream:
        world, exchange = scene(f"http://127.0.0.1:{upstream.origin.port}/v1", (sink,), stream=True)
        sink.exchange = exchange
        go = held_up(world)
        running = asyncio.ensure_future(run(exchange, CHAT))
        await until(lambda: exchange.relay is not None and exchange.relay.ended)
        await asyncio.sleep(0.02)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        go.set()
        await close(world)
    assert [recorded.status_code for recorded in sink.events] == [499]
    assert sink.events[0].usage_estimated


async def test_a_caller_that_is_gone_at_the_last_byte_has_its_event_once() -> None:
    sink = Watching()

    def gone(data: bytes) -> None:
        raise ConnectionResetError

    async with Playbook([Expect(), Answer(200, OK)]).on_stage() as upstream:
        world, exchange = scene(f"http://127.0.0.1:{upstream.origin.port}/v1", (sink,))
        sink.exchange = exchange
        recorder(exchange).on_write = gone
        with pytest.raises(ConnectionResetError):
            await run(exchange, CHAT)
        await close(world)
    assert [recorded.status_code for recorded in sink.events] == [200]
    assert world.lines[0]["status"] == 499


async def test_an_event_that_cannot_be_made_costs_no_answer_and_is_not_tried_twice() -> None:
    class Broken:
        tries = 0

        def record(self, event: UsageEvent) -> None:
            self.tries += 1
            raise RuntimeError("no")

    sink = Broken()
    with capture_logs() as told:
        async with Playbook([Expect(), Answer(200, OK)]).on_stage() as upstream:
            world, exchange = scene(f"http://127.0.0.1:{upstream.origin.port}/v1", (sink,))
            await run(exchange, CHAT)
            await close(world)
    assert recorder(exchange).status == 200
    assert sink.tries == 1
    assert [line["event"] for line in told] == ["the usage events of an exchange are lost"]


async def test_a_hundred_requests_with_one_id_of_the_callers_choice_are_a_hundred_events() -> None:
    said: list[Line] = [Expect(), Answer(200, OK)]
    async with Playbook([*said * 100]).on_stage() as upstream:
        world = make(standard(f"http://127.0.0.1:{upstream.origin.port}/v1"))
        async with serving(world) as port:
            for _ in range(100):
                answer = await ask(port, request(key=KEY, body=chat(), headers={"x-aisix-request-id": "mine"}))
                assert answer.headers["x-aisix-request-id"] == "mine"
    assert len({recorded.request_id for recorded in world.events}) == len(world.events) == 100
