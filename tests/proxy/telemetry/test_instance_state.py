"""The row of this process in a real etcd: there while it runs, true to what changes, gone afterwards."""

import asyncio
from contextlib import aclosing

import msgspec

from aisix_common.model_status import ModelNews
from aisix_common.snapshot import build, empty
from aisix_common.sources.observed import SourceStatus
from aisix_common.store.client import EtcdClient
from aisix_common.store.options import EtcdOptions
from aisix_common.store.types import Changes, Deleted, KeyValue, Listing
from aisix_common.store.watch import list_and_watch
from aisix_common.tasks import TaskOwner
from aisix_proxy.telemetry.instance_state import InstanceRow, InstanceState, with_configuration

from tests.support.builders import NOON, standard
from tests.support.etcd import EtcdServer

BASE = InstanceState("i-1", "proxy", "host", "0", "2026-11-20T12:00:00Z", applied_revision=0, connected=False)


def test_the_row_is_bounded() -> None:
    rows = tuple(KeyValue(f"/aisix/models/{n}", b"{", 1, n + 1) for n in range(500))
    snapshot = build(Listing(rows, 600), empty("/aisix"), NOON)
    levels = {f"m{n}": 1 + n % 2 for n in range(1000)}
    news = ModelNews(levels, dict.fromkeys(levels, "upstream_server_error"))
    state = with_configuration(BASE, snapshot, SourceStatus(connected=True), news)
    assert (state.rejected_count, len(state.rejected), len(state.models)) == (500, 64, 256)
    assert state.reasons.keys() == state.models.keys()
    assert state.rejected[0].id == "499"
    assert set(state.models.values()) == {2}
    assert state.connected
    assert len(msgspec.json.encode(state)) < 64 * 1024


def test_the_ext_root_is_told_of_too() -> None:
    external = build(Listing((KeyValue("/ext/aisix/secret_providers/1", b"{", 1, 4),), 12), empty("/ext/aisix"), NOON)
    state = with_configuration(BASE, standard(), SourceStatus(), ModelNews(), external)
    assert (state.applied_revision, state.external_revision, state.rejected_count) == (10, 12, 1)
    assert state.rejected[0].id == "1"


def test_a_healthy_row_is_small() -> None:
    state = with_configuration(BASE, standard(), SourceStatus(), ModelNews())
    assert b"models" not in msgspec.json.encode(state)
    assert state.applied_revision == 10


async def test_its_life(etcd: EtcdServer, etcd_prefix: str) -> None:
    states = [BASE]
    async with EtcdClient(EtcdOptions(endpoints=(etcd.endpoint,))) as client:
        row = InstanceRow(client, etcd_prefix, "i-1", lambda: states[-1])
        key = f"{etcd_prefix}/instances/i-1"

        async def stored() -> InstanceState | None:
            found = await client.get(key)
            return None if found is None else msgspec.json.decode(found.value, type=InstanceState)

        async def until(expected: InstanceState | None) -> None:
            async with asyncio.timeout(10):
                while await stored() != expected:
                    await asyncio.sleep(0.05)

        async with TaskOwner() as tasks:
            tasks.spawn(row.keep(), name="keep")
            tasks.spawn(row.run(), name="run")
            await until(BASE)
            states.append(msgspec.structs.replace(BASE, applied_revision=7))
            await until(states[-1])
            found = await client.get(key)
            assert found is not None
            assert found.lease
            writes = found.version
            await asyncio.sleep(1.2)
            found = await client.get(key)
            assert found is not None
            assert found.version == writes, "what did not change is not written again"
        await until(None)


async def test_a_change_is_written_at_once_and_the_end_is_told(etcd: EtcdServer, etcd_prefix: str) -> None:
    states, seen = [BASE], list[InstanceState | None]()
    moved = asyncio.Event()

    async def watch(client: EtcdClient) -> None:
        async with aclosing(list_and_watch(client, f"{etcd_prefix}/instances/")) as events:
            async for event in events:
                if isinstance(event, Changes):
                    for row in event.events:
                        seen.append(
                            None if isinstance(row, Deleted) else msgspec.json.decode(row.value, type=InstanceState)
                        )
                moved.set()

    async def until(count: int) -> None:
        async with asyncio.timeout(10):
            while len(seen) < count:
                moved.clear()
                await moved.wait()

    async with EtcdClient(EtcdOptions(endpoints=(etcd.endpoint,))) as client, TaskOwner() as watching:
        watching.spawn(watch(client), name="watch")
        await moved.wait()
        row = InstanceRow(client, etcd_prefix, "i-1", lambda: states[-1])
        async with TaskOwner() as tasks:
            tasks.spawn(row.keep(), name="keep")
            tasks.spawn(row.run(), name="run")
            await until(1)
            loop = asyncio.get_running_loop()
            told = loop.time()
            states.append(msgspec.structs.replace(BASE, applied_revision=7))
            row.changed()
            await until(2)
            assert loop.time() - told < 0.9, "it did not wait for the next look"
        await until(4)
    assert seen == [BASE, states[-1], msgspec.structs.replace(states[-1], stopping=True), None]


async def test_an_etcd_that_is_away_does_not_keep_the_end_waiting(fresh_etcd: EtcdServer) -> None:
    async with EtcdClient(EtcdOptions(endpoints=(fresh_etcd.endpoint,), request_timeout=5)) as client:
        row = InstanceRow(client, "/run/x", "i-1", lambda: BASE)
        async with TaskOwner() as tasks:
            tasks.spawn(row.keep(), name="keep")
            async with asyncio.timeout(10):
                while await client.get("/run/x/instances/i-1") is None:
                    await asyncio.sleep(0.05)
            fresh_etcd.pause()
            begun = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - begun < 4
        fresh_etcd.resume()
