"""However an exchange ends, what it owes is settled once and its end is recorded."""

import asyncio

import pytest
from structlog.testing import capture_logs

from aisix_proxy.canonical.errors import BadRequest, InternalError
from aisix_proxy.pipeline.exchange import Exchange, Reply
from aisix_proxy.pipeline.runner import run

from tests.support.builders import exchange_of, make, recorder, standard


def promised(exchange: Exchange) -> list[int]:
    settled: list[int] = []
    exchange.exits.push(lambda: settled.append(exchange.status))
    return settled


async def test_an_answer_ends_the_stages() -> None:
    exchange = exchange_of(make(standard()))
    settled = promised(exchange)

    async def answer(exchange: Exchange) -> None:
        exchange.answer = Reply(200, b"", b"x")

    async def never(exchange: Exchange) -> None:
        raise AssertionError("a stage ran after the answer")

    await run(exchange, (answer, never))
    assert recorder(exchange).body == b"x"
    assert settled == [200]


async def test_an_error_is_recorded_and_passed_on() -> None:
    exchange = exchange_of(make(standard()))
    settled = promised(exchange)

    async def refuse(exchange: Exchange) -> None:
        raise BadRequest("no")

    with pytest.raises(BadRequest):
        await run(exchange, (refuse,))
    assert settled == [400]
    assert not recorder(exchange).committed


async def test_a_mistake_of_ours_tells_the_caller_nothing() -> None:
    exchange = exchange_of(make(standard()))
    settled = promised(exchange)

    async def stumble(exchange: Exchange) -> None:
        raise ValueError("sk-in-a-message")

    with capture_logs() as lines, pytest.raises(InternalError) as caught:
        await run(exchange, (stumble,))
    assert [(line["log_level"], line["request_id"]) for line in lines] == [("error", exchange.request_id)]
    assert "sk-in-a-message" not in caught.value.message
    assert caught.value.__cause__ is None
    assert settled == [500]


async def test_a_caller_that_leaves() -> None:
    exchange = exchange_of(make(standard()))
    settled = promised(exchange)

    async def wait(exchange: Exchange) -> None:
        await asyncio.sleep(3600)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(run(exchange, (wait,)), 0.01)
    assert settled == [499]
    assert exchange.client_gone
