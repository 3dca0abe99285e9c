"""The way to the provider: encode, send, read; again on the same target while that may help (data-plane 6.3 to 6.5).

Once a stream's head may go to the caller nothing is retried: from then on `deliver` owns it.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

from ...canonical.answer import Answer, Told
from ...canonical.errors import (
    GatewayError,
    UpstreamError,
    UpstreamProtocol,
    UpstreamTimeout,
)
from ...canonical.http import UpstreamResponse
from ...canonical.request import Request
from ...canonical.target import Target
from ...compiled_model import CompiledModel
from ...providers.base import Adapter
from ...upstream.client import UpstreamStream
from ...upstream.retry import backoff, retry_policy
from ...wire.openai_chat import safe_text
from .. import outcome
from ..estimate import answer_usage
from ..exchange import Attempt, Exchange, Reply, Streaming

MAX_ANSWER: Final = 64 * 1024 * 1024
"""Bytes of a buffered answer; more is a provider gone wrong."""
MAX_ERROR_BODY: Final = 64 * 1024
_ERROR_BODY_SECONDS: Final = 5.0
_NO_STREAM: Final = ("application/json", "text/html")


async def call_upstream(exchange: Exchange) -> None:
    """Writes `attempts`, `answer` and what the answer tells of itself. Raises UpstreamError or Misconfigured."""
    model = exchange.targets[0]
    target, request, adapter = model.target, exchange.request, model.adapter
    assert target is not None and request is not None and adapter is not None
    services = exchange.services
    deployment = model.deployment(services.metrics)
    retries = 0
    while True:
        attempt = Attempt(model, "retry" if retries else "initial")
        exchange.attempts.append(attempt)
        deployment.requests.add(1)
        try:
            if request.stream:
                await _open(exchange, attempt, request, target, adapter)
            else:
                await _send(exchange, attempt, request, target, adapter)
        except GatewayError as error:
            attempt.fail(error)
            outcome.failed(services, model, error)
            if not isinstance(error, UpstreamError):
                raise
            if not retry_policy(target.retries, services.settings.upstream.retries).allows(error, retries):
                raise
            wait = backoff(retries + 1, services.random(), error.retry_after)
        else:
            if isinstance(exchange.answer, Reply):  # how a stream ends is seen by `deliver`
                outcome.succeeded(services, model)
            return
        retries += 1
        await asyncio.sleep(wait)


async def _send(exchange: Exchange, attempt: Attempt, request: Request, target: Target, adapter: Adapter) -> None:
    outgoing = adapter.encode(request, target, exchange)
    response = await exchange.services.upstream.send(outgoing, timeout=target.timeout, max_body=MAX_ANSWER)
    attempt.answered(response.status)
    exchange.provider_request_id = _request_id(response.headers, target)
    if not 200 <= response.status < 300:
        raise adapter.error(_cut(response), target)
    answer = adapter.answer(request, response, target)
    usage = answer.usage
    if usage is None or exchange.services.usage_sinks:
        told = _told(answer)
        exchange.finish_reasons, exchange.answer_model = told.finish_reasons, told.model
        if usage is None:
            usage = await answer_usage(exchange, told.text)
    exchange.usage = usage
    body = exchange.endpoint.dialect.answer(request, answer, usage)
    exchange.answer = Reply(200, call_headers(exchange, b"application/json"), body)


async def _open(exchange: Exchange, attempt: Attempt, request: Request, target: Target, adapter: Adapter) -> None:
    outgoing = adapter.encode(request, target, exchange)
    stream = await exchange.services.upstream.open(outgoing, timeout=target.stream_timeout)
    exchange.exits.push(stream.close)
    attempt.answered(stream.status)
    exchange.provider_request_id = _request_id(stream.headers, target)
    try:
        await _check_head(stream, target, adapter)
        relay = exchange.endpoint.dialect.relay(request, target)
        exchange.relay = relay
        first = await _first_chunk(exchange, stream, attempt.model) if attempt.model.awaits_first_chunk else b""
    except GatewayError:
        stream.close()
        exchange.relay = None
        raise
    exchange.answer = Streaming(stream, relay, first)


async def _check_head(stream: UpstreamStream, target: Target, adapter: Adapter) -> None:
    """Raises what the adapter makes of an error status, and UpstreamProtocol for a 200 that is no event stream."""
    if not 200 <= stream.status < 300:
        raise adapter.error(UpstreamResponse(stream.status, stream.headers, await _error_body(stream)), target)
    if stream.headers.get("content-type", "").partition(";")[0].strip().lower() in _NO_STREAM:
        raise UpstreamProtocol("expected an event stream")


async def _error_body(stream: UpstreamStream) -> bytes:
    """At most 64 KiB of it, and what is there after five seconds: the status matters more than the rest."""
    loop = asyncio.get_running_loop()
    until = loop.time() + _ERROR_BODY_SECONDS
    pieces: list[bytes] = []
    size = 0
    try:
        while size < MAX_ERROR_BODY:
            data = await stream.read(max(0.0, until - loop.time()))
            if not data:
                break
            pieces.append(data)
            size += len(data)
    except UpstreamError:
        pass  # the status was told; a body that broke off says no more
    return b"".join(pieces)[:MAX_ERROR_BODY]


async def _first_chunk(exchange: Exchange, stream: UpstreamStream, model: CompiledModel) -> bytes:
    """The first bytes for the caller, so that a stream that fails at once still fails with a status of its own."""
    relay, target = exchange.relay, model.target
    assert relay is not None and target is not None
    loop = asyncio.get_running_loop()
    budget = target.stream_timeout
    due = None if budget is None else loop.time() + budget
    while True:  # one deadline for all of it: comments and pieces of an event are no progress
        data = await stream.read(None if due is None else max(0.0, due - loop.time()))
        if data is None:
            raise UpstreamTimeout(round((budget or 0) * 1000))
        out = relay.feed(data) if data else relay.finish()
        if relay.failed is not None:
            raise relay.failed
        if out or relay.ended or not data:
            return out


def _request_id(headers: Mapping[str, str], target: Target) -> str:
    """The provider's own name for the exchange, as it may be logged: whoever echoes our key must not get it there."""
    value = headers.get("x-request-id", "")
    return safe_text(value, target.credential) if value else ""


def _told(answer: Answer) -> Told:
    """An answer that was found to be sound is paid for: what cannot be read closely costs what we would have learnt."""
    try:
        return answer.told()
    except UpstreamError:
        return Told()


def _cut(response: UpstreamResponse) -> UpstreamResponse:
    if len(response.body) <= MAX_ERROR_BODY:
        return response
    return UpstreamResponse(response.status, response.headers, response.body[:MAX_ERROR_BODY])


def call_headers(exchange: Exchange, content_type: bytes) -> bytes:
    """The head lines of an answered call (data-plane 6.8)."""
    return b"Content-Type: %b\r\nx-aisix-call-id: %b\r\n" % (content_type, exchange.inbound.shown_request_id.encode())
