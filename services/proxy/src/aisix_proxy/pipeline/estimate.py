"""Usage where the provider sent none: counted here, and marked as estimated (data-plane 7.4)."""

import asyncio
from collections.abc import Callable

from aisix_common.logs import get_logger

from ..canonical.usage import NO_USAGE, Usage
from ..telemetry.tokens import count_prompt, count_text
from .exchange import Exchange

_log = get_logger(__name__)


def estimated_usage(exchange: Exchange, model_name: str, produced: Callable[[Callable[[str], int]], int]) -> Usage:
    """Count the request's prompt, and what `produced` counts with the tokenizer it is given.

    Takes as long as the texts are (about 12 ms a megabyte), and once some 100 ms to load a vocabulary.
    """
    request = exchange.request
    assert request is not None
    prompt = count_prompt(exchange.endpoint.dialect.messages(request), model_name)
    completion = produced(lambda text: count_text(text, model_name))
    return Usage(prompt, completion, prompt + completion, estimated=True)


def stream_usage(exchange: Exchange) -> Usage:
    """Our own count of a stream, of what was passed on so far. Raises nothing: a failure is logged, and no usage.

    For a thread; the stream must be at its end.
    """
    relay, request = exchange.relay, exchange.request
    model = exchange.attempts[-1].model if exchange.attempts else None
    if relay is None or request is None or model is None or model.target is None:
        return NO_USAGE
    try:
        return estimated_usage(
            exchange, model.target.model_name, relay.produced_tokens if relay.events else lambda count: 0
        )
    except Exception:  # noqa: BLE001 - a count that fails must not cost the log line and the metrics
        _log.exception("tokens could not be counted", request_id=exchange.request_id)
        return NO_USAGE


def count_aside(exchange: Exchange, then: Callable[[Usage], None]) -> None:
    """`stream_usage` in a thread, then `then` on the loop, exactly once. The drain of the service waits for it."""
    lifecycle = exchange.services.lifecycle

    def counted(future: "asyncio.Future[Usage]") -> None:
        try:
            then(NO_USAGE if future.cancelled() else future.result())
        finally:
            lifecycle.leave()

    lifecycle.enter()
    asyncio.get_running_loop().run_in_executor(None, stream_usage, exchange).add_done_callback(counted)
