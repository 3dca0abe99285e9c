"""The row of this process in a real etcd: there while it runs, true to what changes, gone afterwards."""

import asyncio

import msgspec

from aisix_common.snapshot import build, empty
from aisix_common.sources.observed import SourceStatus
from aisix_common.store.client import EtcdClient
from aisix_common.store.options import EtcdOptions
from aisix_common.store.types import KeyValue, Listing
from aisix_common.tasks import TaskOwner
from aisix_proxy.telemetry.instance_state import InstanceRow, InstanceState, with_configuration

from tests.support.builders import NOON, standard
from tests.support.etcd import EtcdServer

BASE = InstanceState("i-1", "proxy", "host", "0", "2026-11-20T12:00:00Z", applied_revision=0, connected=False)


def test_the_row_is_bounded() -> None:
    rows = tuple(KeyValue(f"/aisix/models/{n}", b"{", 1, n + 1) for n in range(500))
    snapshot = build(Listing(rows, 600), empty("/aisix"), NOON)
    state = with_configuration(BASE, snapshot, SourceStatus(connected=True), {f"m{n}": 1 + n % 2 for n in range(1000)})
    assert (state.rejected_count, len(state.rejected), len(state.models)) == (500, 64, 256)
    assert state.rejected[0].id == "499"
    assert set(state.models.values()) == {2}
    assert state.connected
    assert len(msgspec.json.encode(state)) < 64 * 1024


def test_a_healthy_row_is_small() -> None:
    state = with_configuration(BASE, standard(), SourceStatus(), {})
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
