"""Usage where the provider sent none: counted here, and marked as estimated (data-plane 7.4).

Tokens are counted in a thread of their own, never on the loop. Where too much waits for that thread, or a text cannot
be counted, four bytes are taken for a token: no answer and no log line is lost or late for the sake of a count.
"""

import asyncio
from collections.abc import Callable
from typing import Final, TypeAlias

from aisix_common.logs import get_logger

from ..canonical.errors import GatewayError
from ..canonical.usage import NO_USAGE, Usage
from ..telemetry.tokens import count_prompt, count_text
from .exchange import Exchange

_log = get_logger(__name__)

BYTES_PER_TOKEN: Final = 4

Produced: TypeAlias = Callable[[Callable[[str], int]], int]
"""Counts what was produced, with the tokenizer it is given."""


async def answer_usage(exchange: Exchange, text: str) -> Usage:
    """Our own count of a buffered answer that produced `text`. Raises nothing."""
    return await _counted(exchange, lambda count: count(text))


async def stream_usage(exchange: Exchange) -> Usage:
    """Our own count of a stream that is at its end, of what was passed on. Raises nothing."""
    return await _counted(exchange, _passed_on(exchange))


def count_aside(exchange: Exchange, then: Callable[[Usage], None]) -> None:
    """As `stream_usage`, then `then` on the loop, exactly once: later, or at once where nothing can be counted beside
    it. The drain of the service waits for it."""
    produced = _passed_on(exchange)
    counting = _begin(exchange, produced)
    if counting is None:
        then(_cheap(exchange, produced))
        return
    lifecycle = exchange.services.lifecycle

    def counted(future: "asyncio.Future[Usage]") -> None:
        try:
            then(NO_USAGE if future.cancelled() else future.result())
        finally:
            lifecycle.leave()

    lifecycle.enter()
    counting.add_done_callback(counted)


async def _counted(exchange: Exchange, produced: Produced) -> Usage:
    counting = _begin(exchange, produced)
    return _cheap(exchange, produced) if counting is None else await counting


def _begin(exchange: Exchange, produced: Produced) -> "asyncio.Future[Usage] | None":
    if exchange.request is None or not exchange.attempts:
        return None
    return exchange.services.counter.begin(lambda: _usage(exchange, produced), len(exchange.request.body))


def _usage(exchange: Exchange, produced: Produced) -> Usage:
    """For the thread. Takes as long as the texts are (about 12 ms a megabyte), and once 100 ms and more to load a
    vocabulary."""
    request, target = exchange.request, exchange.attempts[-1].model.target
    assert request is not None and target is not None
    name = target.model_name
    try:
        prompt = count_prompt(exchange.endpoint.dialect.messages(request), name)
        completion = produced(lambda text: count_text(text, name))
    except GatewayError:  # the request holds what nobody can read, deep inside: the provider did not mind
        return _cheap(exchange, produced)
    except Exception:  # noqa: BLE001 - a count that fails must not cost the answer, the log line or the metrics
        _log.exception("tokens could not be counted", request_id=exchange.request_id)
        return _cheap(exchange, produced)
    return Usage(prompt, completion, prompt + completion, estimated=True)


def _cheap(exchange: Exchange, produced: Produced) -> Usage:
    """By size alone; takes microseconds. What was not even asked for has no usage."""
    request = exchange.request
    if request is None or not exchange.attempts:
        return NO_USAGE
    prompt = _by_size(len(bytes(request.fields.get("messages", b""))))
    try:
        completion = produced(lambda text: _by_size(len(text.encode(errors="replace"))))
    except Exception:  # noqa: BLE001 - as above
        _log.exception("the size of an answer is not known", request_id=exchange.request_id)
        completion = 0
    return Usage(prompt, completion, prompt + completion, estimated=True)


def _by_size(size: int) -> int:
    return -(-size // BYTES_PER_TOKEN)


def _passed_on(exchange: Exchange) -> Produced:
    relay = exchange.relay
    return relay.produced_tokens if relay is not None and relay.events else lambda count: 0
