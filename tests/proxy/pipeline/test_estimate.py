"""Our own count: beside the loop, in bounds, and never a reason to fail."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from aisix_proxy.canonical.usage import NO_USAGE, Usage
from aisix_proxy.dialects import DIALECT
from aisix_proxy.pipeline.counter import MOST_WAITING
from aisix_proxy.pipeline.estimate import answer_usage, count_aside, stream_usage
from aisix_proxy.pipeline.exchange import Attempt, Exchange

from tests.support.builders import World, exchange_of, make, standard, until

CHUNK = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"one two three four"}}]}\n\n'
BODY = b'{"model":"demo-model","messages":[{"role":"user","content":"hello","x":%b}]}'


def streamed(world: World, oddity: bytes = b"1") -> Exchange:
    """An exchange after its stream."""
    exchange = exchange_of(world)
    model = world.services.live.compiled.model("demo-model")
    assert model is not None
    assert model.target is not None
    exchange.attempts.append(Attempt(model, "initial"))
    exchange.request = DIALECT["openai-chat"].read(BODY % oddity)
    exchange.relay = DIALECT["openai-chat"].relay(exchange.request, model.target)
    exchange.relay.feed(CHUNK)
    return exchange


def counts(world: World) -> tuple[threading.Event, list[Any]]:
    """Fill the thread's queue; the event empties it."""
    go = threading.Event()
    return go, [world.services.counter.begin(lambda: go.wait(5), 0) for _ in range(MOST_WAITING)]


async def test_what_was_never_a_stream_has_no_usage() -> None:
    assert await stream_usage(exchange_of(make(standard(), upstream=object()))) == NO_USAGE  # type: ignore[arg-type]


async def test_a_stream_is_counted() -> None:
    assert await stream_usage(streamed(make(standard()))) == Usage(8, 4, 12, estimated=True)


CHEAP = Usage(12, 5, 17, estimated=True)


async def test_a_prompt_that_cannot_be_read_is_taken_by_its_size() -> None:
    exchange = streamed(make(standard()), b"1e999")
    assert await stream_usage(exchange) == CHEAP
    assert await answer_usage(exchange, "one two three four") == CHEAP


async def test_past_the_bound_all_is_taken_by_its_size_at_once() -> None:
    world = make(standard())
    go, waiting = counts(world)
    exchange, written = streamed(world, b"10000"), list[Usage]()
    for _ in range(1000):
        count_aside(exchange, written.append)
    assert written == [CHEAP] * 1000
    assert world.lifecycle.in_flight == 0
    assert await stream_usage(exchange) == await answer_usage(exchange, "one two three four") == CHEAP
    go.set()
    await asyncio.gather(*waiting)


class Relay:
    """A relay that notes which thread counts it, and may fail."""

    events = 1

    def __init__(self, *, fails: bool = False) -> None:
        self.threads: list[int] = []
        self._fails = fails

    def produced_tokens(self, count: Callable[[str], int]) -> int:
        self.threads.append(threading.get_ident())
        if self._fails:
            raise RuntimeError
        return count("x")


@pytest.mark.parametrize("fails", [False, True])
async def test_nothing_is_counted_on_the_loop_and_a_failure_is_no_failure(fails: bool) -> None:
    exchange, relay, written = streamed(make(standard())), Relay(fails=fails), list[Usage]()
    exchange.relay = relay  # type: ignore[assignment]
    count_aside(exchange, written.append)
    await until(lambda: bool(written))
    written.append(await stream_usage(exchange))
    assert threading.get_ident() not in relay.threads
    assert [usage.estimated for usage in written] == [True, True]
    assert written[0].completion_tokens == (0 if fails else 1)
    assert written[0].prompt_tokens > 0
