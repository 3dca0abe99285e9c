"""Kept connections: which one is taken, how many are kept, how long, and that nothing of them stays."""

import asyncio

from aisix_common.settings import Upstream as Settings
from aisix_proxy.canonical.http import UpstreamRequest
from aisix_proxy.upstream.client import UpstreamClient

from tests.support.playbook import Answer, Expect, Gone, Line, Playbook, Until, Upstream

TURN: list[Line] = [Expect(), Answer(200, b"ok")]


def get(upstream: Upstream, path: str = "/") -> UpstreamRequest:
    return UpstreamRequest(upstream.origin, "GET", path, (), b"")


async def together(client: UpstreamClient, upstream: Upstream, count: int, go: asyncio.Event) -> None:
    """`count` calls that are under way at the same time, so that as many connections are made."""
    calls = [asyncio.create_task(client.send(get(upstream), timeout=5, max_body=10)) for _ in range(count)]
    wanted = len(upstream.requests) + count
    async with asyncio.timeout(5):
        while len(upstream.requests) < wanted:
            await asyncio.sleep(0.001)
    go.set()
    await asyncio.gather(*calls)


async def settled(client: UpstreamClient, open: int) -> None:
    async with asyncio.timeout(5):
        while client.open_connections != open:
            await asyncio.sleep(0.001)
    assert (client.idle, client.in_use) == (open, 0)


async def test_the_last_one_used_is_taken_first(client: UpstreamClient) -> None:
    go = asyncio.Event()
    first: list[Line] = [Expect(), Until(go), Answer(200, b"ok")]
    async with Playbook([*first, *TURN * 9], forever=True).on_stage() as upstream:
        await together(client, upstream, 3, go)
        await settled(client, 3)
        (pool,) = client._pools._pools.values()
        last = pool.idle[-1]
        for _ in range(5):
            await client.send(get(upstream), timeout=5, max_body=10)
            assert pool.idle[-1] is last
        assert upstream.connections == 3


async def test_no_more_are_kept_than_allowed() -> None:
    for allowed, kept in ((0, 0), (2, 2), (None, 5)):
        client = UpstreamClient(Settings(pool_max_idle_per_host=allowed))
        go = asyncio.Event()
        async with Playbook([Expect(), Until(go), Answer(200, b"ok"), Gone()], forever=True).on_stage() as upstream:
            await together(client, upstream, 5, go)
            await settled(client, kept)
            await client.aclose()


async def test_idle_ones_end_after_their_time() -> None:
    client = UpstreamClient(Settings(pool_idle_timeout_secs=1))
    loop = asyncio.get_running_loop()
    async with Playbook([*TURN, Gone()], forever=True).on_stage() as upstream:
        begun = loop.time()
        await client.send(get(upstream), timeout=60, max_body=10)
        await settled(client, 1)
        await settled(client, 0)
        assert 0.9 < loop.time() - begun < 3
        assert client.pools == 0
    await client.aclose()


async def test_zero_keeps_them_for_good() -> None:
    client = UpstreamClient(Settings(pool_idle_timeout_secs=0))
    async with Playbook([*TURN, Gone()]).on_stage() as upstream:
        await client.send(get(upstream), timeout=None, max_body=10)
        (connection,) = client._pools.open
        assert (connection._due, connection._timer) == (None, None)
        await client.aclose()


async def test_a_server_that_closes_an_idle_one_is_noticed(client: UpstreamClient) -> None:
    async with Playbook(TURN, TURN).on_stage() as upstream:
        for _ in range(2):
            await client.send(get(upstream), timeout=5, max_body=10)
            await settled(client, 0)
        assert client.pools == 0


async def test_origins_do_not_share(client: UpstreamClient) -> None:
    async with Playbook([*TURN, Gone()]).on_stage() as one, Playbook([*TURN, Gone()]).on_stage() as other:
        await client.send(get(one), timeout=5, max_body=10)
        await client.send(get(other), timeout=5, max_body=10)
        await settled(client, 2)
        assert client.pools == 2
        await client.aclose()


async def test_many_origins_come_and_go_without_a_trace(client: UpstreamClient) -> None:
    for _ in range(20):
        async with Playbook(TURN).on_stage() as upstream:
            await client.send(get(upstream), timeout=5, max_body=10)
            await settled(client, 0)
    assert client.pools == 0
