"""The lock in a real etcd: one holder, taken over when its lease ends, and counted by a clock of the test."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from aisix_cloud_agent.lead.etcd_lock import MARGIN_SECONDS, TTL_SECONDS, EtcdLock
from aisix_common.store.client import EtcdClient
from aisix_common.store.options import EtcdOptions
from aisix_common.store.types import Put

from tests.support.cutproxy import CutProxy
from tests.support.etcd import EtcdServer

BELIEVED = TTL_SECONDS - MARGIN_SECONDS


@dataclass
class Monotonic:
    """A clock that stands until it is moved."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Bench:
    """Two agents that want one lock."""

    client: EtcdClient
    root: str
    times: tuple[Monotonic, Monotonic] = field(default_factory=lambda: (Monotonic(), Monotonic()))

    def __post_init__(self) -> None:
        self.key = f"{self.root}/agent/leader"
        self.first, self.second = (
            EtcdLock(self.client, self.root, name, moment)
            for name, moment in zip(("agent-1", "agent-2"), self.times, strict=True)
        )

    async def lease(self) -> int:
        row = await self.client.get(self.key)
        return row.lease if row is not None else 0

    async def kept_once(self, lock: EtcdLock, moment: Monotonic) -> bool:
        """Whether the lock outlives its next renewal. The clock stands shortly before the end, so it is due at once."""
        moment.now += BELIEVED - 0.05
        due = moment.now
        keeping = asyncio.create_task(lock.keep())
        async with asyncio.timeout(20):
            while not keeping.done():
                await asyncio.sleep(0.01)
                moment.now = due + 1
                renewed = lock.holds()
                moment.now = due
                if renewed:
                    keeping.cancel()
                    await asyncio.wait([keeping])
                    return True
        return False


@asynccontextmanager
async def bench(endpoint: str, root: str, seconds: float = 5.0) -> AsyncIterator[Bench]:
    async with EtcdClient(EtcdOptions(endpoints=(endpoint,), request_timeout=seconds)) as client:
        made = Bench(client, root)
        try:
            yield made
        finally:
            await made.first.release()
            await made.second.release()


async def soon(lock: EtcdLock, seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        await lock.acquire()


async def test_one_has_it_until_it_is_released(etcd: EtcdServer, etcd_prefix: str) -> None:
    async with bench(etcd.endpoint, etcd_prefix) as b:
        await soon(b.first)
        row = await b.client.get(b.key)
        assert row is not None
        assert row.lease
        assert msgspec.json.decode(row.value)["holder"] == "agent-1"
        assert await b.client.time_to_live(row.lease) <= TTL_SECONDS
        assert b.first.holds()
        waiting = asyncio.create_task(b.second.acquire())
        await asyncio.sleep(0.2)
        assert not waiting.done()
        assert not b.second.holds()
        begun = time.monotonic()
        await b.first.release()
        async with asyncio.timeout(5):
            await waiting
        assert time.monotonic() - begun < 1.5, "whoever waits is told"
        assert b.second.holds()
        assert not b.first.holds()
        await b.first.release()  # harmless
        assert await b.lease()


async def test_it_is_counted_from_before_it_was_asked_for_by_a_clock_that_goes_on(
    etcd: EtcdServer, etcd_prefix: str
) -> None:
    async with bench(etcd.endpoint, etcd_prefix) as b:
        await soon(b.first)
        b.times[0].now += BELIEVED - 0.01
        assert b.first.holds()
        b.times[0].now += 0.02
        assert not b.first.holds()
        async with asyncio.timeout(1):
            await b.first.keep()  # lost, without a word to etcd
        assert not b.first.holds()


async def test_it_is_renewed_while_the_row_hangs_on_its_lease(etcd: EtcdServer, etcd_prefix: str) -> None:
    async with bench(etcd.endpoint, etcd_prefix) as b:
        await soon(b.first)
        assert await b.kept_once(b.first, b.times[0])
        assert await b.kept_once(b.first, b.times[0])
        row = await b.client.get(b.key)
        assert row is not None
        assert row.version == 1, "renewing writes nothing"
        await b.client.put(b.key, b"{}", lease=0)  # somebody's hand
        assert not await b.kept_once(b.first, b.times[0])
        assert not b.first.holds()


async def test_a_lost_lease_is_a_lost_lock_and_the_next_one_has_it_at_once(etcd: EtcdServer, etcd_prefix: str) -> None:
    async with bench(etcd.endpoint, etcd_prefix) as b:
        await soon(b.first)
        waiting = asyncio.create_task(b.second.acquire())
        await asyncio.sleep(0.1)
        await b.client.revoke(await b.lease())
        async with asyncio.timeout(5):
            await waiting
        assert not await b.kept_once(b.first, b.times[0])
        assert b.second.holds()


async def test_its_conditions_hold_as_long_as_it_does(etcd: EtcdServer, etcd_prefix: str) -> None:
    async with bench(etcd.endpoint, etcd_prefix) as b:
        await soon(b.first)
        mine = b.first.conditions()
        assert (await b.client.txn(mine, [Put(f"{etcd_prefix}/x", b"1")])).succeeded
        assert await b.kept_once(b.first, b.times[0])
        assert b.first.conditions() == mine
        await b.first.release()
        await soon(b.second)
        assert not (await b.client.txn(mine, [Put(f"{etcd_prefix}/x", b"2")])).succeeded
        assert (await b.client.txn(b.second.conditions(), [Put(f"{etcd_prefix}/x", b"2")])).succeeded


@pytest.mark.parametrize("text", [b"", b"{}", b'{"holder": "agent-2"}'])
async def test_a_row_without_a_living_lease_is_nobodys(etcd: EtcdServer, etcd_prefix: str, text: bytes) -> None:
    async with bench(etcd.endpoint, etcd_prefix) as b:
        await b.client.put(b.key, text)
        await soon(b.first)
        assert b.first.holds()


async def test_whoever_gives_up_waiting_leaves_nothing(etcd: EtcdServer, etcd_prefix: str) -> None:
    async with bench(etcd.endpoint, etcd_prefix) as b:
        await soon(b.first)
        with pytest.raises(TimeoutError):
            await soon(b.second, 0.2)
        await b.first.release()
        assert await b.client.get(b.key) is None
        assert not b.second.holds()


async def test_an_etcd_that_restarts_or_goes_back_in_time(fresh_etcd: EtcdServer, tmp_path: Path) -> None:
    async with bench(fresh_etcd.endpoint, "/run/x") as b:
        await asyncio.to_thread(fresh_etcd.snapshot, tmp_path / "before")
        await soon(b.first)
        await asyncio.to_thread(fresh_etcd.restart)
        assert await b.kept_once(b.first, b.times[0])
        await asyncio.to_thread(fresh_etcd.restore, tmp_path / "before")
        assert not await b.kept_once(b.first, b.times[0])
        await soon(b.second, 10)
        assert b.second.holds()


async def test_an_etcd_that_is_silent_costs_the_lock_and_is_told_of_once(etcd: EtcdServer, etcd_prefix: str) -> None:
    async with CutProxy(etcd.port) as link, bench(link.endpoint, etcd_prefix, 0.2) as b:
        await soon(b.first)
        link.black_hole()
        b.times[0].now += BELIEVED - 0.1
        with capture_logs() as lines:
            keeping = asyncio.create_task(b.first.keep())
            await asyncio.sleep(0.7)
            assert not keeping.done(), "it tries on while the clock stands"
            b.times[0].now += 0.2
            assert not b.first.holds()
            async with asyncio.timeout(5):
                await keeping
        assert [line["log_level"] for line in lines] == ["warning"]
        await link.heal()
        link.cut()


HOLD = """
import asyncio, sys
from aisix_cloud_agent.lead.etcd_lock import EtcdLock
from aisix_common.store.client import EtcdClient
from aisix_common.store.options import EtcdOptions
from aisix_common.tasks import TaskOwner

async def main(endpoint, root):
    async with EtcdClient(EtcdOptions(endpoints=(endpoint,))) as client:
        lock = EtcdLock(client, root, "child")
        await lock.acquire()
        print("mine", flush=True)
        await lock.keep()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.slow
async def test_a_killed_holder_is_followed_within_15_seconds(etcd: EtcdServer, etcd_prefix: str) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, etcd.endpoint, etcd_prefix], stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        assert await asyncio.to_thread(child.stdout.readline) == "mine\n"
        async with bench(etcd.endpoint, etcd_prefix) as b:
            waiting = asyncio.create_task(b.second.acquire())
            await asyncio.sleep(3)  # one renewal
            child.kill()
            begun = time.monotonic()
            async with asyncio.timeout(20):
                await waiting
            assert 5 < time.monotonic() - begun < 15
    finally:
        child.kill()
        child.wait()
