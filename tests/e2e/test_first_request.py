"""What a caller holds in hand: the official SDK, against the gateway as operators run it."""

import asyncio
import json
from typing import Any

import httpx2
import openai
import pytest

from tests.support.gateway import ADMIN_KEY, CALLER_KEY, PROVIDER_SECRET, Gateway, until
from tests.support.provider import Provider

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("e2e")]


def client(gateway: Gateway, key: str = CALLER_KEY, **options: Any) -> Any:
    """The SDK as its users make it, but without its own retries, so that every answer is seen.

    Typed as Any: messages are plain dicts here, as in most people's scripts.
    """
    http = httpx2.AsyncClient(trust_env=False)
    return openai.AsyncOpenAI(
        api_key=key,
        base_url=f"{gateway.proxy}/v1",
        max_retries=0,
        http_client=http,
        **options,
    )


def error_body(caught: Any) -> dict[str, Any]:
    return dict(caught.value.body)


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


async def test_buffered(gateway: Gateway) -> None:
    async with client(gateway) as sdk:
        answer = await sdk.chat.completions.create(model="demo-model", messages=said("hello"), n=2)
    assert answer.model == "demo-model"
    assert len(answer.choices) == 2
    assert "You said: hello" in (answer.choices[1].message.content or "")
    assert answer.system_fingerprint == "fp_demo"
    assert answer.usage is not None
    assert answer.usage.total_tokens > 0


async def test_streamed(gateway: Gateway) -> None:
    async with client(gateway) as sdk:
        stream = await sdk.chat.completions.create(model="demo-model", messages=said("count to three"), stream=True)
        chunks = [chunk async for chunk in stream]
    assert {chunk.model for chunk in chunks} == {"demo-model"}
    assert "count to three" in "".join(c.choices[0].delta.content or "" for c in chunks)
    assert all(chunk.choices for chunk in chunks), "the usage-only chunk is shown only to those who ask"
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_streamed_with_usage(gateway: Gateway) -> None:
    async with client(gateway) as sdk:
        stream = await sdk.chat.completions.create(
            model="demo-model", messages=said("hi"), stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens > 0


async def test_tool_calls_and_developer_role_pass_through(gateway: Gateway, provider: Provider) -> None:
    messages = [{"role": "developer", "content": "be brief"}, *said("weather [[tool]]")]
    async with client(gateway) as sdk:
        answer = await sdk.chat.completions.create(
            model="demo-model",
            messages=messages,
            extra_body={"some_new_field": {"deep": [1, 2.50]}},
        )
    call = (answer.choices[0].message.tool_calls or [])[0]
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    received = provider.requests[-1]
    assert received.body["messages"][0]["role"] == "developer"
    assert b'"some_new_field":{"deep":[1,2.5' in received.raw.replace(b" ", b"")
    assert received.body["model"] == "gpt-4o"
    assert received.headers["authorization"] == f"Bearer {PROVIDER_SECRET}"


async def test_raw_response_headers(gateway: Gateway) -> None:
    async with client(gateway) as sdk:
        raw = await sdk.chat.completions.with_raw_response.create(
            model="demo-model",
            messages=said("hi"),
            extra_headers={"x-aisix-request-id": "from-the-caller"},
        )
    assert raw.headers["x-aisix-request-id"] == "from-the-caller"
    assert raw.headers["server"].startswith("AISIX/")
    assert raw.parse().choices[0].finish_reason == "stop"


async def test_with_the_synchronous_client(gateway: Gateway) -> None:
    """Another HTTP stack than the asynchronous one, as most scripts use it."""

    def script() -> tuple[Any, list[Any]]:
        http = httpx2.Client(trust_env=False)
        made: Any = openai.OpenAI(
            api_key=CALLER_KEY, base_url=f"{gateway.proxy}/v1", max_retries=0, timeout=20, http_client=http
        )
        with made as sdk:
            answer = sdk.chat.completions.create(model="demo-model", messages=said("at once"))
            with sdk.chat.completions.create(model="demo-model", messages=said("bit by bit"), stream=True) as stream:
                return answer, list(stream)

    answer, chunks = await asyncio.to_thread(script)
    assert answer.model == "demo-model"
    assert "You said: at once" in answer.choices[0].message.content
    assert answer.usage.total_tokens > 0
    assert {chunk.model for chunk in chunks} == {"demo-model"}
    assert len(chunks) > 2
    assert "You said: bit by bit" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_with_streaming_response(gateway: Gateway) -> None:
    """The body is read by the caller: the head is there before it, and each line of the stream as it was sent."""
    async with client(gateway) as sdk:
        completions = sdk.chat.completions.with_streaming_response
        async with completions.create(model="demo-model", messages=said("at once")) as response:
            assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
            answer = await response.parse()
        async with completions.create(model="demo-model", messages=said("bit by bit"), stream=True) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            assert response.headers["x-aisix-request-id"]
            lines = [line async for line in response.iter_lines() if line]
    assert "You said: at once" in answer.choices[0].message.content
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert "You said: bit by bit" in "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks)


async def test_model_list(gateway: Gateway) -> None:
    async with client(gateway) as sdk:
        models = [model async for model in sdk.models.list()]
    assert [(m.id, m.owned_by) for m in models] == [("demo-model", "openai")]


async def test_unknown_key(gateway: Gateway) -> None:
    async with client(gateway, key="sk-nobody") as sdk:
        with pytest.raises(openai.AuthenticationError) as caught:
            await sdk.chat.completions.create(model="demo-model", messages=said("hi"))
    assert caught.value.code == "invalid_api_key"
    assert error_body(caught)["message"] == "Invalid API key"
    assert "sk-nobody" not in caught.value.response.text


async def test_unknown_model(gateway: Gateway) -> None:
    async with client(gateway) as sdk:
        with pytest.raises(openai.NotFoundError) as caught:
            await sdk.chat.completions.create(model="nope", messages=said("hi"))
    assert error_body(caught)["message"] == 'model "nope" not found'


async def test_upstream_4xx_keeps_its_status(gateway: Gateway) -> None:
    async with client(gateway) as sdk:
        with pytest.raises(openai.RateLimitError) as caught:
            await sdk.chat.completions.create(
                model="demo-model",
                messages=said("[[status=429 retry_after=7 code=slow_down]]"),
            )
    assert caught.value.response.headers["retry-after"] == "7"
    assert (caught.value.code, caught.value.type) == ("slow_down", "upstream_error")


async def test_upstream_5xx_is_502(gateway: Gateway) -> None:
    async with client(gateway) as sdk:
        with pytest.raises(openai.InternalServerError) as caught:
            await sdk.chat.completions.create(model="demo-model", messages=said("[[status=503]]"))
    assert caught.value.status_code == 502
    assert error_body(caught)["message"] == "upstream returned 503"


async def test_a_provider_that_echoes_the_credential_does_not_leak_it(gateway: Gateway) -> None:
    status, body = await gateway.chat("[[status=400 echo_auth]]")
    assert status == 400
    assert PROVIDER_SECRET not in json.dumps(body)


async def test_upstream_stream_error_ends_the_stream_with_an_error(gateway: Gateway) -> None:
    async with client(gateway) as sdk:
        stream = await sdk.chat.completions.create(model="demo-model", messages=said("[[error_after=3]]"), stream=True)
        with pytest.raises(openai.APIError):
            _ = [chunk async for chunk in stream]


async def test_caller_timeout_cancels_upstream(gateway: Gateway, provider: Provider) -> None:
    cancelled = provider.cancelled
    async with client(gateway, timeout=2) as sdk:
        with pytest.raises(openai.APITimeoutError):
            await sdk.chat.completions.create(model="demo-model", messages=said("[[stall]]"))

    async def gone() -> bool:
        return provider.cancelled > cancelled

    await until(gone)


async def test_many_at_once(gateway: Gateway) -> None:
    answers = await asyncio.gather(*(gateway.chat(f"number {i}.") for i in range(50)))
    assert [status for status, _ in answers] == [200] * 50
    assert all(f"number {i}." in body["choices"][0]["message"]["content"] for i, (_, body) in enumerate(answers))


async def test_no_secret_in_log_metrics_or_status(gateway: Gateway) -> None:
    await gateway.chat("[[status=400 echo_auth]]")
    await gateway.chat("hi", key="sk-wrong-canary-7777")

    async def logged() -> bool:
        return "proxy request completed" in gateway.log.read_text()

    await until(logged)
    pages = [await gateway.text(path) for path in ("/metrics", "/status/config", "/status/models", "/status/ready")]
    pages.append(json.dumps(await gateway.call("GET", "provider_keys")))
    pages.append(json.dumps(await gateway.call("GET", "api_keys")))
    pages.append(gateway.log.read_text())
    for secret in (PROVIDER_SECRET, CALLER_KEY, ADMIN_KEY, "sk-wrong-canary-7777"):
        assert all(secret not in page for page in pages), secret


async def test_metrics_and_status(gateway: Gateway) -> None:
    await gateway.chat("hi")
    text = await gateway.text("/metrics")
    assert "aisix_proxy_requests_total{" in text
    assert 'model="demo-model"' in text
    status = json.loads(await gateway.text("/status/config"))
    assert status["state"] == "synced"
    assert status["applied"]["resource_counts"] == {"provider_keys": 1, "models": 1, "api_keys": 1}
    assert json.loads(await gateway.text("/status/models"))[0]["display_name"] == "demo-model"
    assert await gateway.text("/status/ready") == "ok"
