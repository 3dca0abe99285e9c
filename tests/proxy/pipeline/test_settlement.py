"""What is written down when an exchange is over."""

import json
import threading
from collections.abc import Callable

from aisix_common.settings.observability import Observability
from aisix_proxy.canonical.errors import BadRequest, Unauthenticated, UpstreamStatus
from aisix_proxy.canonical.usage import Usage
from aisix_proxy.endpoints.models import MODELS
from aisix_proxy.pipeline.exchange import Attempt, Exchange
from aisix_proxy.pipeline.settlement import settle
from aisix_proxy.pipeline.stages.authenticate import authenticate
from aisix_proxy.pipeline.stages.read_request import read_request
from aisix_proxy.pipeline.stages.resolve_model import resolve_model

from tests.support.builders import (
    KEY,
    SECRET,
    World,
    api_key,
    exchange_of,
    make,
    model,
    provider_key,
    settings_of,
    snapshot_of,
    standard,
    until,
)


async def ended(world: World) -> Exchange:
    exchange = exchange_of(
        world, headers={"Authorization": KEY, "Content-Type": "application/json", "User-Agent": "u\n"}
    )
    await authenticate(exchange)
    await read_request(exchange)
    await resolve_model(exchange)
    assert exchange.model is not None
    exchange.attempts.append(Attempt(exchange.model, "initial"))
    exchange.status = 200
    return exchange


async def test_nothing_of_a_key_or_a_secret_is_written_down() -> None:
    world = make(snapshot_of(provider_key(telemetry_tags={"pk_label": "l", "kind": "byo"}), model(), api_key()))
    exchange = await ended(world)
    exchange.usage = Usage(1, 2, 3)
    settle(exchange)
    text = json.dumps(world.lines) + repr(world.events) + repr(world.metrics.collect())
    assert KEY not in text
    assert SECRET not in text
    assert (world.events[0].pk_label, world.events[0].provider_kind) == ("l", "byo")
    assert world.events[0].client_user_agent == "u"


async def test_absent_is_absent() -> None:
    world = make(standard())
    exchange = exchange_of(world, headers={})
    exchange.status = 401
    settle(exchange)
    assert set(world.lines[0]) == {"event", "method", "path", "status", "latency_ms", "request_id", "client_ip"}
    assert world.events == []
    assert world.value("aisix_requests_total", status="401", model="unresolved", provider="unknown") == 1


async def test_a_caller_without_a_key_is_counted_and_not_logged() -> None:
    world = make(standard())
    for error in (Unauthenticated("no"), BadRequest("no")):
        exchange = exchange_of(world, headers={})
        exchange.status, exchange.error = error.status, error
        settle(exchange)
    assert [line["status"] for line in world.lines] == [400]
    assert world.value("aisix_requests_total", status="401") == 1


async def test_a_failure_before_any_attempt_is_one_event() -> None:
    world = make(standard())
    exchange = await ended(world)
    exchange.attempts.clear()
    exchange.status, exchange.error = 400, BadRequest("no\n" + "x" * 5000)
    settle(exchange)
    (event,) = world.events
    assert (event.error_class, event.status_code, event.attempt_index) == ("invalid_request_error", 400, 0)
    assert len(world.lines[0]["error"]) == 2048
    assert "\n" not in world.lines[0]["error"]


async def test_one_event_for_each_attempt_and_the_usage_on_the_last() -> None:
    world = make(standard())
    exchange = await ended(world)
    exchange.attempts[0].fail(UpstreamStatus(503, "down"))
    assert exchange.model is not None
    exchange.attempts.append(Attempt(exchange.model, "retry"))
    exchange.usage = Usage(1, 2, 3)
    settle(exchange)
    first, last = world.events
    assert (first.prompt_tokens, first.status_code, first.error_class) == (0, 502, "upstream_status")
    assert (last.prompt_tokens, last.status_code, last.attempt_index) == (1, 200, 1)
    assert first.request_id == last.request_id
    assert world.value("aisix_usage_events_emitted_total", model="demo-model") == 2


class Silent:
    """A relay of a provider that tells no usage, and whose text takes a while to count."""

    usage: Usage | None = None
    events = 1
    finish_reasons = ("stop",)

    def __init__(self, go: threading.Event | None) -> None:
        self._go = go

    def produced_tokens(self, count: Callable[[str], int]) -> int:
        assert self._go is not None
        assert self._go.wait(5)
        return 7


async def test_tokens_are_counted_beside_the_loop_and_then_all_is_written_down_once() -> None:
    world = make(standard())
    exchange = await ended(world)
    go = threading.Event()
    exchange.relay = Silent(go)  # type: ignore[assignment]
    settle(exchange)
    assert (world.lines, world.events, world.lifecycle.in_flight) == ([], [], 1)
    go.set()
    await until(lambda: world.lifecycle.in_flight == 0)
    assert (len(world.lines), len(world.events)) == (1, 1)
    assert (world.events[0].completion_tokens, world.events[0].usage_estimated) == (7, True)
    assert world.value("aisix_proxy_requests_total") == 1


async def test_a_count_that_fails_costs_the_count_alone() -> None:
    world = make(standard())
    exchange = await ended(world)
    exchange.relay = Silent(None)  # type: ignore[assignment]
    settle(exchange)
    await until(lambda: world.lifecycle.in_flight == 0)
    assert (len(world.lines), world.events[0].completion_tokens) == (1, 0)


async def test_a_listing_is_no_inference() -> None:
    world = make(standard())
    exchange = exchange_of(world, endpoint=MODELS)
    await authenticate(exchange)
    exchange.status = 200
    settle(exchange)
    assert world.events == []
    assert world.value("aisix_proxy_requests_total", endpoint="/v1/models") == 1
    assert world.value("aisix_llm_requests_total") == 0


async def test_the_access_log_can_be_turned_off() -> None:
    world = make(standard(), settings=settings_of(observability=Observability(access_log=False)))
    settle(await ended(world))
    assert world.lines == []
    assert len(world.events) == 1


async def test_cells_are_looked_up_once() -> None:
    world = make(standard())
    for _ in range(3):
        settle(await ended(world))
    key = world.services.live.compiled.remembered_credential(KEY)
    assert key is not None
    assert len(key._cells) == 1
    assert world.value("aisix_proxy_requests_total") == 3
    assert world.value("aisix_request_duration_seconds") == 3
