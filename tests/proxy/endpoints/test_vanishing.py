"""Callers that vanish: nothing of theirs may stay, however many they are."""

import asyncio
import gc
import os
import socket

from aisix_proxy.upstream.client import UpstreamClient

from tests.support import provider as providers
from tests.support.builders import KEY, chat, make, serving, standard, until
from tests.support.raw_http import connect, request

CALLERS = 1000
AT_ONCE = 100


def sockets() -> int:
    """Open sockets of this process."""
    count = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")
        except OSError:
            continue
    return count


async def vanish(port: int, *, reset: bool) -> None:
    """Ask for a long stream, read its beginning, and leave."""
    async with connect(port) as connection:
        connection.send(request(key=KEY, body=chat("[[events=400 gap=25]]", stream=True)))
        status, _ = await connection.head()
        assert status == 200
        await connection.chunk()
        if reset:
            raw: socket.socket = connection.writer.get_extra_info("socket")
            assert raw.fileno() >= 0
            connection.abort()


async def test_a_thousand_vanishing_callers_leave_nothing() -> None:
    async with providers.running() as provider, serving(world := make(standard(provider.base))) as port:
        upstream = world.services.upstream
        assert isinstance(upstream, UpstreamClient)
        tasks_unused, sockets_unused = len(asyncio.all_tasks()), sockets()
        async with connect(port) as connection:  # so that whatever is made once is there
            connection.send(request(key=KEY, body=chat()))
            assert (await connection.response()).status == 200
        await until(lambda: world.lifecycle.in_flight == 0)
        assert (upstream.idle, upstream.in_use) == (1, 0)  # the provider's end of it is in this process too
        await until(lambda: sockets() == sockets_unused + 2)
        await until(lambda: len(asyncio.all_tasks()) == tasks_unused + 1)
        tasks_before, sockets_before = len(asyncio.all_tasks()), sockets()
        for start in range(0, CALLERS, AT_ONCE):
            await asyncio.gather(*(vanish(port, reset=bool(n % 2)) for n in range(start, start + AT_ONCE)))
        await until(lambda: world.lifecycle.in_flight == 0)
        await until(lambda: len(asyncio.all_tasks()) <= tasks_before, 10)
        await until(lambda: sockets() <= sockets_before, 10)
        gc.collect()
        assert world.value("aisix_proxy_in_flight_requests") == 0
        assert world.value("aisix_proxy_client_cancelled_requests_total") == CALLERS
        assert len(world.lines) == len(world.events) == CALLERS + 1
        assert upstream.in_use == 0
