"""Which keys are in use, as the agent reads it in a real etcd; and how that is bounded."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest
from structlog.testing import capture_logs

from aisix_common.logs import get_logger
from aisix_common.managed.budgets import ACTIVE_SECONDS, MOST_KEYS, Asked, asked_root
from aisix_common.store.client import EtcdClient
from aisix_common.store.options import EtcdOptions
from aisix_common.tasks import TaskOwner
from aisix_proxy.managed import asking
from aisix_proxy.managed.asking import Asking

from tests.support.etcd import EtcdServer


class Hand:
    """A monotonic clock that is moved by hand."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def made(
    client: EtcdClient, root: str, lease: Callable[[], int], clock: Hand | None = None, name: str = "i-1"
) -> Asking:
    return Asking(client, root, name, lease, get_logger("test"), monotonic=clock or Hand())


async def rows(client: EtcdClient, root: str) -> dict[str, tuple[set[str], int, int]]:
    """Keys, lease and version by what comes after the root."""
    found = await client.range(asked_root(root))
    return {
        row.key.removeprefix(asked_root(root)): (
            set(msgspec.json.decode(row.value, type=Asked).keys),
            row.lease,
            row.version,
        )
        for row in found.rows
    }


async def becomes(client: EtcdClient, root: str, expected: set[str], lease: int) -> None:
    async with asyncio.timeout(10):
        while True:
            there = await rows(client, root)
            union = {id for keys, _, _ in there.values() for id in keys}
            if union == expected and all(bound == lease for _, bound, _ in there.values()):
                return
            await asyncio.sleep(0.01)


async def test_its_life(etcd: EtcdServer, etcd_prefix: str) -> None:
    """New keys at once and together; none before there is a lease; all again under another one; idle ones go."""
    clock, leases = Hand(), [0]
    async with EtcdClient(EtcdOptions(endpoints=(etcd.endpoint,))) as client, TaskOwner() as tasks:
        mine = made(client, etcd_prefix, lambda: leases[-1], clock)
        tasks.spawn(mine.run(), name="asking")
        ids = {f"key-{n}" for n in range(300)}
        assert [mine.use(id) for id in ids] == [False] * 300
        assert mine.use("key-1")
        await asyncio.sleep(0.1)
        assert await rows(client, etcd_prefix) == {}, "nothing without a lease"
        leases.append(await client.grant(60))
        await becomes(client, etcd_prefix, ids, leases[-1])
        there = await rows(client, etcd_prefix)
        assert len(there) > 50
        assert {version for _, _, version in there.values()} == {1}, "one write, not one for each key"
        mine.use("key-new")
        await becomes(client, etcd_prefix, {*ids, "key-new"}, leases[-1])
        changed = [name for name, row in (await rows(client, etcd_prefix)).items() if row != there.get(name)]
        assert len(changed) == 1, "only its own shard"
        assert mine._allowance < asking.BURST_BYTES, "what is written is counted"

        await client.revoke(leases[-1])
        assert await rows(client, etcd_prefix) == {}
        leases.append(await client.grant(60))
        clock.time += ACTIVE_SECONDS + 0.1
        mine.use("key-1")
        mine.use("key-2")
        mine.use("another")
        await becomes(client, etcd_prefix, {"key-1", "key-2", "another"}, leases[-1])
        assert len(mine) == 3
        await client.revoke(leases[-1])


async def test_instances_do_not_know_each_other(etcd: EtcdServer, etcd_prefix: str) -> None:
    async with EtcdClient(EtcdOptions(endpoints=(etcd.endpoint,))) as client, TaskOwner() as tasks:
        lease = await client.grant(60)
        for name in ("i-1", "i-2"):
            mine = made(client, etcd_prefix, lambda: lease, name=name)
            mine.use("key-1")
            tasks.spawn(mine.run(), name=name)
        async with asyncio.timeout(10):
            while len(await rows(client, etcd_prefix)) < 2:
                await asyncio.sleep(0.01)
        await client.revoke(lease)


async def test_a_lost_lease_and_an_etcd_away_are_told_once(fresh_etcd: EtcdServer) -> None:
    options = EtcdOptions(endpoints=(fresh_etcd.endpoint,), request_timeout=0.5)
    with capture_logs() as lines:
        async with EtcdClient(options) as client, TaskOwner() as tasks:
            leases = [await client.grant(60)]
            await client.revoke(leases[0])
            mine = made(client, "/run/x", lambda: leases[-1])
            tasks.spawn(mine.run(), name="asking")
            mine.use("key-1")
            while not lines:  # the keeper has not noticed yet
                await asyncio.sleep(0.01)
            fresh_etcd.kill()
            mine.use("key-2")
            await asyncio.to_thread(fresh_etcd.start)
            leases.append(await client.grant(60))
            await becomes(client, "/run/x", {"key-1", "key-2"}, leases[-1])
            async with asyncio.timeout(10):
                while len(lines) < 2:
                    await asyncio.sleep(0.01)
    assert [line["log_level"] for line in lines] == ["warning", "info"]
    assert "lease" in lines[0]["reason"]


async def test_the_keys_that_were_used_last_are_kept() -> None:
    async with EtcdClient(EtcdOptions(endpoints=("http://127.0.0.1:9",))) as client:
        mine = made(client, "/run/x", lambda: 0)
        for n in range(MOST_KEYS):
            mine.use(f"key-{n}")
        mine.use("key-0")
        for n in range(10):
            assert not mine.use(f"new-{n}")
        assert len(mine) == MOST_KEYS
        assert "key-0" in mine
        assert "key-1" not in mine
        assert "key-10" not in mine
        assert "key-11" in mine


def test_transactions_stay_small() -> None:
    mine = made(None, "/run/x", lambda: 0)  # type: ignore[arg-type]  # nothing is written
    for n in range(MOST_KEYS):
        mine.use(f"{n:0>200}")
    batches = list(mine._batches(1))
    assert len(batches) > 3
    assert sum(len(shards) for shards, _ in batches) == 64
    for _, operations in batches:
        assert sum(len(getattr(each, "value", b"")) for each in operations) <= asking.MOST_BYTES


@pytest.mark.looptime
async def test_rows_that_change_all_the_time_cost_etcd_a_bounded_part() -> None:
    loop = asyncio.get_running_loop()
    mine = Asking(None, "/run/x", "i-1", lambda: 0, get_logger("test"), monotonic=loop.time)  # type: ignore[arg-type]
    began = loop.time()
    for _ in range(20):
        mine._allowance -= 100 * 1024  # as `_write` does
        await mine._pace()
    seconds = (20 * 100 * 1024 - asking.BURST_BYTES) / asking.BYTES_A_SECOND
    assert loop.time() - began == pytest.approx(seconds, rel=0.1)
