"""The gateway while etcd is away, cut off, restarted or slow to come back: it degrades, and loses nothing."""

import asyncio
import json
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from aisix_common.resources.api_keys import hash_key
from aisix_common.store.client import EtcdClient, EtcdOptions
from aisix_common.store.types import Put

from tests.bench.cpu import rss_megabytes, tree
from tests.support import gateway as gateways
from tests.support import provider as providers
from tests.support.cutproxy import CutProxy
from tests.support.etcd import EtcdServer
from tests.support.gateway import PROVIDER_SECRET, Gateway, until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("outages")]


@pytest.fixture
async def provider() -> AsyncIterator[providers.Provider]:
    async with providers.running() as running:
        yield running


async def seed(etcd: EtcdServer, provider: providers.Provider, keys: int = 1) -> None:
    """A provider key, `demo-model`, and caller keys `sk-0` ... written as an operator with etcdctl would."""
    provider_key = {"display_name": "p", "provider": "openai", "api_key": PROVIDER_SECRET, "api_base": provider.base}
    model = {"display_name": "demo-model", "provider": "openai", "model_name": "gpt-4o", "provider_key_id": "p"}
    async with EtcdClient(EtcdOptions(endpoints=(etcd.endpoint,))) as client:
        await client.put("/aisix/provider_keys/p", json.dumps(provider_key).encode())
        await client.put("/aisix/models/m", json.dumps(model).encode())
        for start in range(0, keys, 100):
            await client.txn((), [put_key(n) for n in range(start, min(start + 100, keys))])


def put_key(number: int) -> Put:
    document = {"key_hash": hash_key(f"sk-{number}"), "allowed_models": ["demo-model"], "display_name": f"key {number}"}
    return Put(f"/aisix/api_keys/k-{number}", json.dumps(document).encode())


async def works(gateway: Gateway, key: str) -> bool:
    return (await gateway.chat("hi", key=key))[0] == 200


async def test_etcd_killed_under_load_fails_no_request(
    fresh_etcd: EtcdServer, provider: providers.Provider, tmp_path: Path
) -> None:
    await seed(fresh_etcd, provider)
    async with gateways.running(tmp_path / "g", fresh_etcd.endpoint, module="aisix_proxy") as gateway:
        await until(lambda: works(gateway, "sk-0"))
        statuses: list[int] = []
        stop = asyncio.Event()

        async def load() -> None:
            while not stop.is_set():
                statuses.append((await gateway.chat("hi", key="sk-0"))[0])

        async with asyncio.TaskGroup() as tasks:
            for _ in range(4):
                tasks.create_task(load())
            await until(grown(statuses, 50))
            await asyncio.to_thread(fresh_etcd.kill)
            await until(grown(statuses, 200))

            async def disconnected() -> bool:
                return json.loads(await gateway.text("/status/config"))["source"]["connected"] is False

            await until(disconnected, 20)
            await asyncio.to_thread(fresh_etcd.start)
            await until(grown(statuses, 100))
            stop.set()
        assert set(statuses) == {200}


def grown(values: list[int], by: int) -> Callable[[], Awaitable[bool]]:
    """The condition that `values` has `by` more items than now."""
    wanted = len(values) + by

    async def condition() -> bool:
        return len(values) >= wanted

    return condition


async def test_cut_link_while_others_write(
    fresh_etcd: EtcdServer, provider: providers.Provider, tmp_path: Path
) -> None:
    await seed(fresh_etcd, provider)
    async with CutProxy(fresh_etcd.port) as link:
        async with gateways.running(tmp_path / "g", link.endpoint, module="aisix_proxy") as gateway:
            await until(lambda: works(gateway, "sk-0"))
            await link.refuse()
            async with EtcdClient(EtcdOptions(endpoints=(fresh_etcd.endpoint,))) as client:
                for number in range(1, 51):
                    await client.txn((), [put_key(number)])
                await client.delete("/aisix/api_keys/k-7")
            assert (await gateway.chat("hi", key="sk-3"))[0] == 401
            await link.heal()
            await until(lambda: works(gateway, "sk-50"))
            statuses = [(await gateway.chat("hi", key=f"sk-{n}"))[0] for n in range(51)]
            assert statuses == [401 if n == 7 else 200 for n in range(51)]


async def test_etcd_restarted_and_written_to_before_the_proxy_reconnects(
    fresh_etcd: EtcdServer, provider: providers.Provider, tmp_path: Path
) -> None:
    await seed(fresh_etcd, provider)
    async with CutProxy(fresh_etcd.port) as link:
        async with gateways.running(tmp_path / "g", link.endpoint, module="aisix_proxy") as gateway:
            await until(lambda: works(gateway, "sk-0"))
            await link.refuse()
            await asyncio.to_thread(fresh_etcd.restart)
            async with EtcdClient(EtcdOptions(endpoints=(fresh_etcd.endpoint,))) as client:
                await client.txn((), [put_key(1), put_key(2)])
                await client.delete("/aisix/api_keys/k-0")
            await link.heal()
            await until(lambda: works(gateway, "sk-2"))
            assert (await gateway.chat("hi", key="sk-0"))[0] == 401


async def test_proxy_restarted_while_etcd_is_down_serves_from_its_cache(
    fresh_etcd: EtcdServer, provider: providers.Provider, tmp_path: Path
) -> None:
    await seed(fresh_etcd, provider)
    folder = tmp_path / "g"
    async with gateways.running(folder, fresh_etcd.endpoint, module="aisix_proxy") as gateway:
        await until(lambda: works(gateway, "sk-0"))
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.glob("snapshot.cache*"))
    await asyncio.to_thread(fresh_etcd.stop)
    async with gateways.running(folder, fresh_etcd.endpoint, module="aisix_proxy") as gateway:
        assert await works(gateway, "sk-0")
        source = json.loads(await gateway.text("/status/config"))["source"]
        assert source["connected"] is False
        await asyncio.to_thread(fresh_etcd.start)
        async with EtcdClient(EtcdOptions(endpoints=(fresh_etcd.endpoint,))) as client:
            await client.txn((), [put_key(1)])
        await until(lambda: works(gateway, "sk-1"), 20)


async def test_propagation_with_ten_thousand_keys(
    fresh_etcd: EtcdServer, provider: providers.Provider, tmp_path: Path
) -> None:
    """From etcd's commit to used by the proxy: 100 ms at the median, 500 ms at p99 (design 10)."""
    await seed(fresh_etcd, provider, keys=10_000)
    async with gateways.running(tmp_path / "g", fresh_etcd.endpoint, module="aisix_proxy") as gateway:
        await until(lambda: works(gateway, "sk-9999"), 20)
        loop = asyncio.get_running_loop()
        delays: list[float] = []
        async with EtcdClient(EtcdOptions(endpoints=(fresh_etcd.endpoint,))) as client:
            for number in range(10_000, 10_050):
                await client.txn((), [put_key(number)])
                committed = loop.time()
                while not await works(gateway, f"sk-{number}"):
                    assert loop.time() - committed < 5
                delays.append(loop.time() - committed)
        print(f"propagation: median {statistics.median(delays) * 1e3:.1f} ms, worst {max(delays) * 1e3:.1f} ms")
        assert statistics.median(delays) < 0.1
        assert max(delays) < 0.5


@pytest.mark.slow
async def test_fifty_thousand_keys_load_quickly(
    fresh_etcd: EtcdServer, provider: providers.Provider, tmp_path: Path
) -> None:
    await seed(fresh_etcd, provider, keys=50_000)
    started = asyncio.get_running_loop().time()
    async with gateways.running(tmp_path / "g", fresh_etcd.endpoint, module="aisix_proxy") as gateway:
        assert await works(gateway, "sk-49999")
        took = asyncio.get_running_loop().time() - started
        print(f"50,000 keys: ready after {took:.2f} s, {rss_megabytes(tree(gateway.process.pid)):.0f} MB")
        assert took < 5


@pytest.mark.slow  # four starts, each timed
async def test_start_and_memory_with_a_thousand_keys(
    fresh_etcd: EtcdServer, provider: providers.Provider, tmp_path: Path
) -> None:
    await seed(fresh_etcd, provider, keys=1000)
    starts: list[float] = []
    for turn in range(4):  # other tests use the machine, too: the best start is the one that was not in their way
        started = asyncio.get_running_loop().time()
        async with gateways.running(tmp_path / f"g{turn}", fresh_etcd.endpoint, module="aisix_proxy") as gateway:
            starts.append(asyncio.get_running_loop().time() - started)
            for _ in range(200):
                assert await works(gateway, "sk-999")
            megabytes = rss_megabytes([gateway.process.pid])
            print(f"1,000 keys: ready after {starts[-1]:.2f} s, {megabytes:.0f} MB after 200 requests")
            assert megabytes < 100
        if min(starts) < 2:
            break
    assert min(starts) < 2
