"""The pipeline against a scripted provider: what goes out, what comes back, and what is written down about it."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from aisix_common.settings.listeners import Downstream
from aisix_common.settings.outbound import Upstream as UpstreamSettings
from aisix_proxy.upstream.client import UpstreamClient

from tests.support.builders import (
    KEY,
    SECRET,
    World,
    changed,
    chat,
    make,
    provider_key,
    serving,
    settings_of,
    standard,
    until,
)
from tests.support.playbook import Answer, Chunk, End, Expect, Gone, Head, Line, Playbook, Reset, Stall, Until, Upstream
from tests.support.raw_http import Response, ask, connect, request

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
OK = json.dumps(
    {
        "id": "c-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o-2026",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        "usage": USAGE,
    }
).encode()
DONE = b"data: [DONE]\n\n"


def event(content: str | None = None, **more: Any) -> bytes:
    delta = {} if content is None else {"content": content}
    chunk = {
        "id": "c-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-4o",
        "choices": [{"index": 0, "delta": delta, "finish_reason": more.pop("finish_reason", None)}],
    }
    return b"data: " + json.dumps(chunk | more).encode() + b"\n\n"


def usage_event() -> bytes:
    return event(choices=[], usage=USAGE)


def world_for(upstream: Upstream, *, settings: Any = None, **model_fields: Any) -> World:
    base = f"http://127.0.0.1:{upstream.origin.port}/v1"
    return make(standard(base, **model_fields), settings=settings)


async def converse(
    *dialogues: Sequence[Line], body: Any = None, settings: Any = None, **model_fields: Any
) -> tuple[Response, World, Upstream]:
    """One request against the play; checks that nothing is left over."""
    async with Playbook(*dialogues).on_stage() as upstream:
        world = world_for(upstream, settings=settings, **model_fields)
        async with serving(world) as port:
            answer = await ask(port, request(key=KEY, body=body or chat()))
            await until(lambda: world.lifecycle.in_flight == 0)
        assert len(world.lines) == 1
    return answer, world, upstream


def ended(world: World) -> tuple[float, float, float]:
    """Attempts: all, those that succeeded, those that failed."""
    return (
        world.value("aisix_deployment_requests_total"),
        world.value("aisix_deployment_success_responses_total"),
        world.value("aisix_deployment_failure_responses_total"),
    )


async def test_a_buffered_answer() -> None:
    answer, world, upstream = await converse([Expect("POST", "/v1/chat/completions"), Answer(200, OK)])
    assert answer.status == 200
    assert answer.json["model"] == "demo-model"
    assert json.loads(upstream.requests[0].body)["model"] == "gpt-4o"
    (usage,) = world.events
    assert (usage.prompt_tokens, usage.completion_tokens, usage.usage_estimated) == (3, 2, False)
    assert (usage.attempt_kind, usage.provider_model_version, usage.finish_reason) == ("initial", "gpt-4o-2026", "stop")
    assert world.value("aisix_llm_total_tokens_total", model="demo-model", api_key_id="key-1") == 5
    assert world.value("aisix_deployment_success_responses_total") == 1


async def test_a_server_error_is_tried_again() -> None:
    answer, world, _ = await converse([Expect(), Answer(503), Expect(), Answer(200, OK)])
    assert answer.status == 200
    assert world.lines[0]["routing_attempt_count"] == 2
    assert [(e.attempt_kind, e.status_code, e.total) for e in map(Seen, world.events)] == [
        ("initial", 502, 0),
        ("retry", 200, 5),
    ]
    assert world.value("aisix_deployment_requests_total") == 2
    assert world.services.health.level("demo-model") == 0


class Seen:
    def __init__(self, event: Any) -> None:
        self.attempt_kind, self.status_code = event.attempt_kind, event.status_code
        self.total = event.prompt_tokens + event.completion_tokens


async def test_a_provider_that_stays_down() -> None:
    answer, world, _ = await converse([Expect(), Answer(500), Expect(), Answer(500)], retries=1)
    assert (answer.status, answer.error["message"]) == (502, "upstream returned 500")
    assert world.services.health.reason("demo-model") == "upstream_server_error"
    assert world.value("aisix_requests_total", outcome="upstream_error", status="502") == 1


@pytest.mark.parametrize("status", [400, 401, 404, 429])
async def test_a_4xx_keeps_its_status_and_is_not_tried_again(status: int) -> None:
    body = json.dumps({"error": {"message": "because", "type": "x", "code": "why", "param": "p"}}).encode()
    answer, world, _ = await converse([Expect(), Answer(status, body, {"Retry-After": "7"})])
    assert answer.status == status
    assert answer.error == {"message": "because", "type": "upstream_error", "param": "p", "code": "why"}
    assert answer.headers.get("retry-after") == ("7" if status == 429 else None)
    assert world.events[0].error_class == "upstream_status"


async def test_a_deadline_of_the_model_is_a_504() -> None:
    answer, world, _ = await converse([Expect(), Gone()], timeout=50, retries=0)
    assert (answer.status, answer.error["type"]) == (504, "timeout")
    assert answer.error["message"] == "upstream request timed out after 50ms"
    assert world.events[0].error_class == "timeout"


async def test_a_provider_that_cannot_be_reached() -> None:
    settings = settings_of(upstream=UpstreamSettings(retries=0))
    async with serving(make(standard("http://127.0.0.1:1/v1"), settings=settings)) as port:
        answer = await ask(port, request(key=KEY, body=chat()))
    assert (answer.status, answer.error["type"]) == (502, "transport_error")


async def test_a_broken_answer_is_a_502() -> None:
    answer, _, _ = await converse([Expect(), Answer(200, b"<html>")], retries=0)
    assert (answer.status, answer.error["type"]) == (502, "upstream_decode_error")


async def test_tokens_are_counted_where_the_provider_sends_none() -> None:
    silent = json.dumps({k: v for k, v in json.loads(OK).items() if k != "usage"}).encode()
    answer, world, _ = await converse([Expect(), Answer(200, silent)])
    assert answer.json["usage"]["total_tokens"] > 0
    assert world.events[0].usage_estimated
    assert world.events[0].prompt_tokens + world.events[0].completion_tokens == answer.json["usage"]["total_tokens"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_provider_that_echoes_our_key_gets_it_into_no_log(stream: bool) -> None:
    said = json.loads(OK) | {"model": SECRET, "id": SECRET}
    said["choices"][0]["finish_reason"] = SECRET
    echo = {"X-Request-Id": f"r-{SECRET}"}
    chunk = Chunk(event("hi", finish_reason=SECRET, model=SECRET) + usage_event() + DONE)
    streamed: list[Line] = [Head(200, {"Content-Type": "text/event-stream"} | echo), chunk, End()]
    answer, world, _ = await converse(
        [Expect(), *(streamed if stream else [Answer(200, json.dumps(said).encode(), echo)])], body=chat(stream=stream)
    )
    assert answer.status == 200
    assert (world.lines[0]["provider_request_id"], world.events[0].finish_reason) == ("r-***", "***")
    assert SECRET not in repr(world.lines) + repr(world.events)


@pytest.mark.parametrize(
    ("oddity", "answered"),
    [("1e999", "{}"), ("1", '{"role":"assistant","content":"hi","x":1e999}'), ("1", '{"content":[1e999]}')],
)
async def test_a_paid_answer_is_not_lost_because_it_cannot_be_counted(oddity: str, answered: str) -> None:
    body = json.dumps(chat()).replace('"role"', f'"x": {oddity}, "role"').encode()
    said = f'{{"choices":[{{"index":0,"message":{answered}}}]}}'.encode()
    answer, world, _ = await converse([Expect(), Answer(200, said)], body=body)
    assert (answer.status, len(world.events)) == (200, 1)
    assert world.events[0].usage_estimated
    assert world.events[0].prompt_tokens > 0
    assert answer.body.count(b"1e999") == answered.count("1e999")
    assert b'"usage":{"prompt_tokens"' in answer.body
    assert world.value("aisix_deployment_success_responses_total") == 1


async def test_a_stream() -> None:
    body = chat(stream=True)
    answer, world, upstream = await converse(
        [Expect(), Head(), Chunk(event("he")), Chunk(event("llo") + usage_event()), Chunk(DONE), End()], body=body
    )
    assert json.loads(upstream.requests[0].body)["stream_options"] == {"include_usage": True}
    assert answer.body.replace(b'": "', b'":"').count(b'"model":"demo-model"') == 2
    assert answer.body.endswith(DONE)
    assert (world.events[0].prompt_tokens, world.events[0].completion_tokens) == (3, 2)
    assert world.value("aisix_llm_time_to_first_token_seconds", model="demo-model") == 1
    assert ended(world) == (1, 1, 0)


async def test_streams_share_a_connection_though_the_last_chunk_comes_late() -> None:
    said: list[Line] = [Expect(), Head(), Chunk(event("hi") + usage_event() + DONE), Stall(0.05), End()]
    async with Playbook([*said, *said]).on_stage() as upstream:
        world = world_for(upstream)
        async with serving(world) as port:
            client = world.services.upstream
            assert isinstance(client, UpstreamClient)
            assert (await ask(port, request(key=KEY, body=chat(stream=True)))).body.endswith(DONE)
            await until(lambda: client.idle == 1)
            assert (await ask(port, request(key=KEY, body=chat(stream=True)))).body.endswith(DONE)
    assert upstream.connections == 1


async def test_a_stream_without_usage_is_counted_and_marked() -> None:
    answer, world, _ = await converse(
        [Expect(), Head(), Chunk(event("hello there") + DONE), End()], body=chat(stream=True)
    )
    assert answer.status == 200
    assert world.events[0].usage_estimated
    assert world.events[0].completion_tokens > 0


async def test_a_caller_that_asked_for_usage_gets_our_count_where_the_provider_has_none() -> None:
    body = chat(stream=True, stream_options={"include_usage": True})
    answer, world, _ = await converse([Expect(), Head(), Chunk(event("hello there") + DONE), End()], body=body)
    *_, last, end, _ = answer.body.split(b"\n\n")
    shown = json.loads(last.removeprefix(b"data: "))
    assert (shown["id"], shown["model"], shown["choices"], end + b"\n\n") == ("c-1", "demo-model", [], DONE)
    usage = world.events[0]
    assert usage.usage_estimated
    assert shown["usage"]["completion_tokens"] == usage.completion_tokens > 0
    assert shown["usage"]["prompt_tokens"] == usage.prompt_tokens > 0
    assert len(world.events) == 1


async def test_an_error_before_the_head_of_a_stream_has_its_status() -> None:
    answer, _, _ = await converse([Expect(), Answer(429, b'{"error":{"message":"slow"}}')], body=chat(stream=True))
    assert (answer.status, answer.error["message"]) == (429, "slow")


async def test_a_stream_that_breaks_ends_with_an_error_event_and_no_done() -> None:
    answer, world, _ = await converse(
        [Expect(), Head(), Chunk(event("he")), Stall(0.05), Reset()], body=chat(stream=True)
    )
    assert answer.status == 200
    assert b"event: error" in answer.body
    assert b"[DONE]" not in answer.body
    assert world.lines[0]["error_kind"] in ("stream_aborted", "transport_error")
    assert world.events[0].error_class in ("stream_aborted", "transport")
    assert ended(world) == (1, 0, 1)
    assert world.services.health.reason("demo-model") == "transport_error"


async def test_an_error_inside_a_stream() -> None:
    failed = b'data: {"error":{"message":"out of luck","type":"server_error"}}\n\n'
    answer, world, _ = await converse(
        [Expect(), Head(), Chunk(event("he")), Chunk(failed), Gone()], body=chat(stream=True)
    )
    assert b"out of luck" in answer.body
    assert b"[DONE]" not in answer.body
    assert world.events[0].error_class == "upstream_in_band"
    assert ended(world) == (1, 0, 1)


async def test_a_gap_longer_than_the_budget_ends_the_stream_and_the_provider() -> None:
    answer, world, _ = await converse(
        [Expect(), Head(), Chunk(event("he")), Gone()], body=chat(stream=True), stream_timeout=80
    )
    assert b"timed out after 80ms" in answer.body
    assert ended(world) == (1, 0, 1)
    assert world.services.health.reason("demo-model") == "request_timeout"
    assert b"event: error" in answer.body


async def test_with_a_budget_on_the_model_a_first_chunk_that_fails_still_has_a_status() -> None:
    failed = b'data: {"error":{"message":"no","code":"quota"}}\n\n'
    answer, world, _ = await converse(
        [Expect(), Head(), Chunk(failed), Gone()],
        [Expect(), Head(), Chunk(event("hi")), Chunk(DONE), End()],
        body=chat(stream=True),
        stream_timeout=2000,
        retries=1,
    )
    assert answer.status == 200
    assert b"[DONE]" in answer.body
    assert world.lines[0]["routing_attempt_count"] == 2


async def test_a_budget_on_the_model_is_for_the_whole_wait_and_comments_are_no_progress() -> None:
    comments: list[Line] = [line for _ in range(100) for line in (Chunk(b": thinking\n\n"), Stall(0.02))]
    answer, world, _ = await converse(
        [Expect(), Head(), *comments], body=chat(stream=True), stream_timeout=200, retries=0
    )
    assert (answer.status, answer.error["message"]) == (504, "upstream request timed out after 200ms")
    assert world.value("aisix_deployment_failure_responses_total") == 1


async def test_comments_are_no_progress_later_either() -> None:
    comments: list[Line] = [line for _ in range(100) for line in (Chunk(b": thinking\n\n"), Stall(0.02))]
    answer, _, _ = await converse(
        [Expect(), Head(), Chunk(event("he")), *comments], body=chat(stream=True), stream_timeout=200
    )
    assert answer.status == 200
    assert b"timed out after 200ms" in answer.body


async def test_a_200_that_is_no_stream_is_a_502() -> None:
    html = Answer(200, b"<html>", {"Content-Type": "text/html"})
    answer, _, _ = await converse([Expect(), html], body=chat(stream=True), retries=0)
    assert (answer.status, answer.error["type"]) == (502, "upstream_decode_error")


async def test_heartbeats_fill_the_silence() -> None:
    go = asyncio.Event()
    settings = settings_of(downstream=Downstream(sse_keepalive_interval_secs=1))
    play = Playbook([Expect(), Head(), Chunk(event("he")), Until(go), Chunk(DONE), End()])
    async with play.on_stage() as upstream:
        async with serving(world_for(upstream, settings=settings)) as port, connect(port) as connection:
            connection.send(request(key=KEY, body=chat(stream=True)))
            await connection.head()
            assert b"he" in await connection.chunk()
            assert await connection.chunk() == b":\n\n"
            go.set()
            assert await connection.chunk() == DONE
            assert await connection.chunk() == b""


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_that_leaves_before_the_first_byte_ends_the_providers_work(stream: bool) -> None:
    async with Playbook([Expect(), Gone()]).on_stage() as upstream:
        world = world_for(upstream)
        async with serving(world) as port, connect(port) as connection:
            connection.send(request(key=KEY, body=chat(stream=stream)))
            await until(lambda: len(upstream.requests) == 1)
            connection.abort()
            await asyncio.wait_for(upstream.over.wait(), 5)
            await until(lambda: world.lifecycle.in_flight == 0)
    assert world.lines[0]["status"] == 499
    assert world.lines[0]["error_kind"] == "client_disconnected"
    assert world.events[0].status_code == 499
    assert world.value("aisix_proxy_client_cancelled_requests_total", model="demo-model") == 1
    assert world.value("aisix_proxy_in_flight_requests") == 0


async def test_a_caller_that_leaves_mid_stream_is_counted_once_and_only_for_what_it_got() -> None:
    async with Playbook([Expect(), Head(), Chunk(event("hello")), Gone()]).on_stage() as upstream:
        world = world_for(upstream)
        async with serving(world) as port, connect(port) as connection:
            connection.send(request(key=KEY, body=chat(stream=True)))
            await connection.head()
            await connection.chunk()
            connection.abort()
            await asyncio.wait_for(upstream.over.wait(), 5)
            await until(lambda: world.lifecycle.in_flight == 0)
    (usage,) = world.events
    assert usage.status_code == 499
    assert usage.usage_estimated
    assert usage.completion_tokens == 1
    assert ended(world) == (1, 0, 0)


async def test_a_caller_that_leaves_after_the_last_byte_is_no_abort() -> None:
    _, world, _ = await converse([Expect(), Answer(200, OK)])
    assert world.lines[0]["status"] == 200
    assert world.value("aisix_proxy_client_cancelled_requests_total") == 0


async def test_a_slow_reader_holds_the_provider_back() -> None:
    big = event("x" * 60_000)
    play = Playbook([Expect(), Head(), *[Chunk(big)] * 600, Chunk(DONE), End()])
    async with play.on_stage() as upstream:
        world = world_for(upstream)
        async with serving(world) as port, connect(port) as connection:
            connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
            connection.send(request(key=KEY, body=chat(stream=True)))
            client = world.services.upstream
            assert isinstance(client, UpstreamClient)
            await until(lambda: len(client._pools.open) == 1)
            (connection_up,) = client._pools.open
            transport = connection_up._transport
            assert transport is not None
            before = -1
            async with asyncio.timeout(20):  # until nothing is read, and what the sockets hold is full
                while transport.is_reading() or before != upstream.sent:
                    before = upstream.sent
                    await asyncio.sleep(0.2)
            assert upstream.sent < len(big) * 500, "somebody collected the stream for a reader that does not read"
            connection.writer.transport.resume_reading()  # type: ignore[attr-defined]
            answer = await connection.response()
    assert answer.body.endswith(DONE)
    assert world.lines[0]["status"] == 200


async def test_a_rotated_key_is_used_by_the_next_request_and_the_running_one_ends_with_its_own() -> None:
    go = asyncio.Event()
    play = Playbook([Expect(), Head(), Until(go), Chunk(event("a") + DONE), End()], [Expect(), Answer(200, OK)])
    async with play.on_stage() as upstream:
        base = f"http://127.0.0.1:{upstream.origin.port}/v1"
        snapshot = standard(base)
        world = make(snapshot)
        async with serving(world) as port, connect(port) as connection:
            connection.send(request(key=KEY, body=chat(stream=True)))
            await connection.head()
            world.services.live.apply(changed(snapshot, provider_key(api_base=base, api_key="sk-new")))
            assert (await ask(port, request(key=KEY, body=chat()))).status == 200
            go.set()
            assert (await connection.chunk()).startswith(b"data: ")
    assert upstream.requests[0].headers["authorization"] != "Bearer sk-new"
    assert upstream.requests[1].headers["authorization"] == "Bearer sk-new"
