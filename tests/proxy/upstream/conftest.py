"""Both event loops the proxy may run on, and a client that must leave nothing behind."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest_asyncio
import uvloop

from aisix_common.settings import Upstream
from aisix_proxy.upstream.client import UpstreamClient


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest_asyncio.fixture
async def client() -> AsyncIterator[UpstreamClient]:
    """A client with the default settings; after the test nothing of it may be left."""
    client = UpstreamClient(Upstream())
    yield client
    await client.aclose()
    assert (client.open_connections, client.idle, client.in_use, client.pools) == (0, 0, 0, 0)
