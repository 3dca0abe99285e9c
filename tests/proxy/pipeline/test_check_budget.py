"""The budget stage, and what a caller without a budget is told."""

import json
from dataclasses import replace
from typing import Any

import msgspec
import openai
import pytest

from aisix_common.logs import get_logger
from aisix_common.managed.budgets import Decided, Decision, Denial, decided_key, shard_of
from aisix_common.store.client import EtcdClient
from aisix_common.store.options import EtcdOptions
from aisix_common.store.types import KeyValue
from aisix_proxy.canonical.errors import BudgetExceeded
from aisix_proxy.managed.budgets import Budgets
from aisix_proxy.pipeline.stages.authenticate import authenticate
from aisix_proxy.pipeline.stages.check_budget import NO_REASON, check_budget

from tests.support.builders import KEY, NOON, World, chat, exchange_of, make, serving, standard
from tests.support.raw_http import ask, request

FULL = Denial(
    message="team budget exhausted",
    scope="team",
    scope_ref="team-7",
    limit_usd="100.00",
    spent_usd="100.25",
    remaining_usd="0.00",
    period="monthly",
    period_resets_at="2026-12-01T00:00:00Z",
    retry_after_seconds=900,
)
LIFTED = {
    "scope": "team",
    "scope_ref": "team-7",
    "limit_usd": "100.00",
    "spent_usd": "100.25",
    "period": "monthly",
    "period_resets_at": "2026-12-01T00:00:00Z",
    "retry_after_seconds": 900,
}


def managed(said: Decision | None, **more: Any) -> World:
    """A gateway that was told this of the standard key."""
    world = make(standard(), **more)
    client = EtcdClient(EtcdOptions(endpoints=("http://127.0.0.1:9",)))
    budgets = Budgets(
        client, "/run/aisix", "i-1", lambda: 0, clock=world.clock, stale_max_secs=600, log=get_logger("test")
    )
    if said is not None:
        row = msgspec.json.encode(Decided({"key-1": said}))
        budgets.take(KeyValue(decided_key("/run/aisix", shard_of("key-1")), row, 1, 1))
    return replace(world, services=replace(world.services, budgets=budgets))


def said(allow: bool, age: int = 0, **more: Any) -> Decision:
    return Decision(allow, int(NOON.timestamp()) - age, **more)


@pytest.mark.parametrize("decision", [said(True), said(True, 300), said(False, 700, fail_mode="open", denial=FULL)])
@pytest.mark.looptime
async def test_keys_that_may(decision: Decision) -> None:
    exchange = exchange_of(managed(decision))
    await authenticate(exchange)
    await check_budget(exchange)


async def test_a_gateway_of_its_own_asks_nobody() -> None:
    exchange = exchange_of(make(standard()))
    await authenticate(exchange)
    await check_budget(exchange)


@pytest.mark.parametrize(
    ("decision", "message", "extras", "retry_after"),
    [
        (said(False, denial=FULL), "team budget exhausted", LIFTED, 900),
        (said(False), NO_REASON, {}, None),
        (said(False, denial=Denial(scope="key")), NO_REASON, {"scope": "key"}, None),
        (said(False, denial=Denial(retry_after_seconds=0)), NO_REASON, {"retry_after_seconds": 0}, 0),
        (said(False, denial=Denial(retry_after_seconds=-3)), NO_REASON, {"retry_after_seconds": 0}, 0),
        (said(False, 300, denial=FULL, fail_mode="open"), "team budget exhausted", LIFTED, 900),
        (said(False, 700, denial=FULL), "cp-api unreachable and the cached decision is too old", {}, None),
        (said(True, 700, fail_mode="closed"), "cp-api unreachable and the cached decision is too old", {}, None),
        (None, "cp-api unreachable and no cached decision", {}, None),
    ],
)
@pytest.mark.looptime
async def test_keys_that_may_not(
    decision: Decision | None, message: str, extras: dict[str, Any], retry_after: int | None
) -> None:
    exchange = exchange_of(managed(decision))
    await authenticate(exchange)
    with pytest.raises(BudgetExceeded) as caught:
        await check_budget(exchange)
    error = caught.value
    assert (error.status, error.type, error.code) == (429, "billing_error", "budget_exceeded")
    assert (error.message, dict(error.extras), error.retry_after) == (message, extras, retry_after)


async def test_what_the_caller_sees_and_what_is_written_down() -> None:
    world = managed(said(False, denial=FULL))
    async with serving(world) as port:
        answer = await ask(port, request(key=KEY, body=chat()))
        listing = await ask(port, request("GET", "/v1/models", key=KEY))
        unknown = await ask(port, request(key=KEY, body=chat(model="no-such")))
    assert (answer.status, answer.headers["retry-after"]) == (429, "900")
    error = {"message": "team budget exhausted", "type": "billing_error", "code": "budget_exceeded"}
    assert json.loads(answer.body) == {"error": error | LIFTED}
    assert listing.status == 200
    assert unknown.status == 404, "what may not be asked for at all comes first"
    denied = world.events[0]
    assert (denied.status_code, denied.error_class, denied.attempt_index) == (429, "billing_error", 0)
    assert world.lines[0]["error_kind"] == "billing_error"


async def test_the_official_sdk_sees_a_rate_limit_with_the_details() -> None:
    async with serving(managed(said(False, denial=FULL))) as port:
        client = openai.AsyncOpenAI(api_key=KEY, base_url=f"http://127.0.0.1:{port}/v1", max_retries=0)
        async with client:
            with pytest.raises(openai.RateLimitError) as caught:
                await client.chat.completions.create(**chat())
    error = caught.value
    assert (error.code, error.type) == ("budget_exceeded", "billing_error")
    assert isinstance(error.body, dict)
    assert LIFTED.items() <= error.body.items()
    assert error.response.headers["retry-after"] == "900"
