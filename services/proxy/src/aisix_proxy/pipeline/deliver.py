"""The one delivery loop: a buffered answer in one write, a stream event by event, to readers of any speed.

Per read of the upstream there is one `relay.feed` and one write (`pump`); no parsing, no copying into queues. A reader
that is slower than the provider stops us at `drain`, and so the provider: nothing is collected for it. An answer is
billed before its last byte goes out.
"""

import asyncio
import time
from typing import Final

from ..canonical.errors import GatewayError
from . import outcome
from .estimate import stream_usage
from .exchange import Downstream, Exchange, Reply, Streaming
from .pump import EARLY, NEVER, Pace, Pump
from .settlement import bill

STALL_SECONDS: Final = 60.0
"""How long a reader may take nothing at all before its connection is dropped."""
LOOK_SECONDS: Final = 5.0
"""How often it is looked whether a slow reader has taken something."""
LONGEST_STREAM: Final = 6000.0
"""Seconds a stream may take in all, unless the deployment's own request deadline is longer: the reference's default."""
LEAVE_SECONDS: Final = 1.0
"""How long the provider has, after its end marker, to end the answer too: then the connection can be used again."""


class ReaderStalled(ConnectionError):
    """The caller read nothing for too long."""


async def deliver(exchange: Exchange) -> None:
    """Writes `status`, `first_byte` and, for a stream that failed, `error`; tells `outcome` how a stream ended.

    Raises ConnectionError.
    """
    answer = exchange.answer
    if isinstance(answer, Reply):
        exchange.status = answer.status
        await bill(exchange)
        exchange.downstream.send(answer.status, answer.headers, answer.body)
        if exchange.downstream.paused:
            await flush(exchange.downstream)
    elif isinstance(answer, Streaming):
        await _deliver_stream(exchange, answer)
    else:
        raise AssertionError("no stage answered")


async def flush(downstream: Downstream) -> None:
    """Wait for a slow reader, however slow. Drops the connection and raises ReaderStalled when it takes nothing for a
    minute, or is still not done when the longest stream would be."""
    loop = asyncio.get_running_loop()
    unsent = downstream.unsent
    moved = loop.time()
    end = moved + LONGEST_STREAM
    while True:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await downstream.drain()
        except TimeoutError:
            now, before, unsent = loop.time(), unsent, downstream.unsent
            if unsent < before:
                moved = now
            if now - moved < STALL_SECONDS - EARLY and now < end:
                continue
            downstream.abort()
            raise ReaderStalled("the caller does not read") from None
        return


async def _deliver_stream(exchange: Exchange, answer: Streaming) -> None:
    downstream = exchange.downstream
    headers = b"Content-Type: text/event-stream\r\nCache-Control: no-cache\r\nx-aisix-call-id: %b\r\n"
    downstream.begin(200, headers % exchange.inbound.shown_request_id.encode())
    exchange.status = 200
    attempt = exchange.attempts[-1] if exchange.attempts else None
    pump = Pump(exchange, answer, _pace(exchange))
    try:
        pump.start(answer.first)
        while await pump.turn:
            await flush(downstream)
            pump.go_on()
    except GatewayError as error:  # the head is gone: told inside the stream, and no end marker after it
        exchange.error = error
        if attempt is not None:
            attempt.error = error
            outcome.failed(exchange.services, attempt.model, error)
        await bill(exchange)
        downstream.finish(exchange.endpoint.dialect.stream_error(error))
    else:
        if attempt is not None:
            outcome.succeeded(exchange.services, attempt.model)
        answer.upstream.leave(LEAVE_SECONDS)
        last = pump.last
        if answer.relay.owes_usage:
            usage = await stream_usage(exchange)
            last = answer.relay.end_with(usage if usage.estimated else None)
        if not exchange.first_byte:
            exchange.first_byte = time.monotonic()
        await bill(exchange)
        downstream.finish(last)
    finally:
        pump.stop()
        answer.upstream.close()
    if downstream.paused:
        await flush(downstream)


def _pace(exchange: Exchange) -> Pace:
    settings = exchange.services.settings
    model = exchange.attempts[-1].model if exchange.attempts else None
    target = model.target if model else None
    gap = target.stream_timeout if target and target.stream_timeout else NEVER
    whole = settings.upstream.timeout_ms / 1000
    total = max(whole, LONGEST_STREAM) if whole else NEVER
    return Pace(settings.downstream.sse_keepalive_interval_secs or NEVER, gap, total)
