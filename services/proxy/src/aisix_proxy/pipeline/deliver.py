"""The one delivery loop: a buffered answer in one write, a stream event by event, to readers of any speed.

Per read of the upstream there is one `relay.feed` and one write; no parsing, no copying into queues. A reader that is
slower than the provider stops us at `drain`, and so the provider: nothing is collected for it.
"""

import asyncio
import time
from typing import Final

from ..canonical.errors import GatewayError, UpstreamTimeout
from .exchange import Downstream, Exchange, Reply, Streaming

HEARTBEAT: Final = b":\n\n"
STALL_SECONDS: Final = 60.0
"""How long a reader may take nothing at all before its connection is dropped."""
NEVER: Final = float("inf")
LONGEST_STREAM: Final = 6000.0
"""Seconds a stream may take in all, unless the deployment's own request deadline is longer: the reference's default."""


class ReaderStalled(ConnectionError):
    """The caller read nothing for too long."""


async def deliver(exchange: Exchange) -> None:
    """Writes `status`, `first_byte` and, for a stream that failed, `error`. Raises ConnectionError."""
    answer = exchange.answer
    if isinstance(answer, Reply):
        exchange.status = answer.status
        exchange.downstream.send(answer.status, answer.headers, answer.body)
        if exchange.downstream.paused:
            await flush(exchange.downstream)
    elif isinstance(answer, Streaming):
        await _deliver_stream(exchange, answer)
    else:
        raise AssertionError("no stage answered")


async def flush(downstream: Downstream) -> None:
    """Wait for a slow reader. Drops the connection and raises ReaderStalled when it takes nothing for a minute."""
    try:
        async with asyncio.timeout(STALL_SECONDS):
            await downstream.drain()
    except TimeoutError:
        downstream.abort()
        raise ReaderStalled("the caller does not read") from None


async def _deliver_stream(exchange: Exchange, answer: Streaming) -> None:
    downstream = exchange.downstream
    headers = b"Content-Type: text/event-stream\r\nCache-Control: no-cache\r\nx-aisix-call-id: %b\r\n"
    downstream.begin(200, headers % exchange.inbound.shown_request_id.encode())
    exchange.status = 200
    try:
        await _relay(exchange, answer)
    except GatewayError as error:  # the head is gone: told inside the stream, and no end marker after it
        exchange.error = error
        attempt = exchange.attempts[-1] if exchange.attempts else None
        if attempt is not None:
            attempt.error = error
        downstream.write(exchange.endpoint.dialect.stream_error(error))
    finally:
        answer.upstream.close()
    downstream.finish()
    if downstream.paused:
        await flush(downstream)


async def _relay(exchange: Exchange, answer: Streaming) -> None:
    """Pass the stream on until its end. Raises the error it ended with, UpstreamTimeout or ReaderStalled."""
    downstream, upstream, relay = exchange.downstream, answer.upstream, answer.relay
    clock = asyncio.get_running_loop().time
    beat, gap, total = _deadlines(exchange)
    now = wrote = heard = begun = clock()
    if answer.first:
        exchange.first_byte = time.monotonic()
        downstream.write(answer.first)
    while not relay.ended:
        if relay.failed is not None:
            raise relay.failed
        wait = min(heard + gap, wrote + beat, begun + total) - now
        data = await upstream.read(None if wait == NEVER else max(wait, 0.0))
        now = clock()
        if data is None:
            if now >= heard + gap:
                raise UpstreamTimeout(round(gap * 1000))
            if now >= begun + total:
                raise UpstreamTimeout(round(total * 1000))
            out = HEARTBEAT if now >= wrote + beat else b""
        elif data:
            heard = now
            out = relay.feed(data)
            if not out and now >= wrote + beat:
                out = HEARTBEAT
            elif now >= begun + total:
                raise UpstreamTimeout(round(total * 1000))
            elif out and not exchange.first_byte:
                exchange.first_byte = time.monotonic()
        else:
            out = relay.finish()
            if out:
                downstream.write(out)
            if relay.failed is not None:
                raise relay.failed
            return
        if out:
            downstream.write(out)
            wrote = now
            if downstream.paused:
                await flush(downstream)
                now = heard = wrote = clock()
    if relay.failed is not None:
        raise relay.failed


def _deadlines(exchange: Exchange) -> tuple[float, float, float]:
    """Seconds: silence until a heartbeat, silence of the provider until it is given up, the whole stream."""
    settings = exchange.services.settings
    model = exchange.attempts[-1].model if exchange.attempts else None
    target = model.target if model else None
    gap = target.stream_timeout if target and target.stream_timeout else NEVER
    whole = settings.upstream.timeout_ms / 1000
    total = max(whole, LONGEST_STREAM) if whole else NEVER
    return settings.downstream.sse_keepalive_interval_secs or NEVER, gap, total
