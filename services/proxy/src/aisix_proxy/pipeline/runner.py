"""Runs an exchange through its stages and delivers the answer. Everything it owes is settled when `run` returns.

Knows no stage by name, and no HTTP: a failure leaves as a GatewayError, which only `endpoints/_edge.py` turns into one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from aisix_common.logs import get_logger

from ..canonical.errors import GatewayError, InternalError
from .deliver import deliver
from .exchange import CLIENT_GONE, Exchange

_log = get_logger(__name__)

Stage: TypeAlias = Callable[[Exchange], Awaitable[None]]


async def run(exchange: Exchange, stages: Sequence[Stage]) -> None:
    """Raises GatewayError for the edge to show, and CancelledError when the caller left."""
    try:
        for stage in stages:
            await stage(exchange)
            if exchange.answer is not None:  # answered: a listing, a cache hit, or the provider
                break
        await deliver(exchange)
    except GatewayError as error:
        exchange.error = error
        exchange.status = error.status
        raise
    except (asyncio.CancelledError, ConnectionError):
        exchange.client_gone = True
        exchange.status = CLIENT_GONE
        raise
    except Exception:  # noqa: BLE001 - whatever it is, the caller gets an answer and the log the rest
        _log.exception("an exchange failed by a mistake of ours", request_id=exchange.request_id)
        exchange.error = InternalError()
        exchange.status = exchange.error.status
        raise exchange.error from None
    finally:
        exchange.exits.close()
