"""The frame of leading: the epoch in a real etcd, and what ends what."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from aisix_cloud_agent.lead.etcd_lock import EtcdLock
from aisix_cloud_agent.lead.lead import Lead, LeadLost
from aisix_cloud_agent.lead.leading import Leadership, lead
from aisix_common.errors import StoreUnavailable
from aisix_common.managed.projected import epoch_key
from aisix_common.store.client import EtcdClient
from aisix_common.store.options import EtcdOptions
from aisix_common.store.types import Compare, Put, unchanged

from tests.support.etcd import EtcdServer

Work = Callable[[Lead], Awaitable[None]]


@dataclass
class OpenLock:
    """A lock that is there for the taking; `lost` ends a keeping. It lies outside etcd, like a Kubernetes Lease."""

    name: str = "lock of the test"
    said: list[str] = field(default_factory=list)
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    held: bool = False

    async def acquire(self) -> None:
        self.said.append("acquired")
        self.lost.clear()
        self.held = True

    async def keep(self) -> None:
        await self.lost.wait()
        self.held = False

    def holds(self) -> bool:
        return self.held

    async def release(self) -> None:
        self.said.append("released")
        self.held = False


class FixedClock:
    def now(self) -> datetime:
        return datetime(2026, 11, 27, 12, 0, tzinfo=UTC)


@dataclass
class Office:
    """Runs `lead` in the background."""

    client: EtcdClient
    root: str
    lock: OpenLock = field(default_factory=OpenLock)
    leads: list[Lead] = field(default_factory=list)
    won: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.leadership = Leadership("agent-1", FixedClock())

    @asynccontextmanager
    async def running(self, work: Work) -> AsyncIterator[None]:
        async def noted(won: Lead) -> None:
            self.leads.append(won)
            self.won.set()
            await work(won)

        task = asyncio.create_task(lead(self.lock, self.client, self.root, noted, self.leadership))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def wins(self, times: int) -> Lead:
        async with asyncio.timeout(10):
            while len(self.leads) < times:
                self.won.clear()
                await self.won.wait()
        return self.leads[times - 1]


@asynccontextmanager
async def office(etcd: EtcdServer, root: str) -> AsyncIterator[Office]:
    async with EtcdClient(EtcdOptions(endpoints=(etcd.endpoint,))) as client:
        yield Office(client, root)


async def forever(_lead: Lead) -> None:
    await asyncio.Event().wait()


async def test_the_epoch_is_written_before_the_work_begins(etcd: EtcdServer, etcd_prefix: str) -> None:
    async with office(etcd, etcd_prefix) as o:
        with capture_logs() as lines:
            async with o.running(forever):
                won = await o.wins(1)
                row = await o.client.get(epoch_key(etcd_prefix))
                assert row is not None
                assert row.mod_revision == won.epoch == o.leadership.epoch
                assert msgspec.json.decode(row.value) == {"holder": "agent-1", "since": "2026-11-27T12:00:00Z"}
                assert won.holds()
                assert (o.leadership.leading, o.leadership.changes) == (True, 1)
                assert o.leadership.since == FixedClock().now()
                assert (await o.client.txn([won.fence(etcd_prefix)], [Put(f"{etcd_prefix}/x", b"")])).succeeded
        assert o.lock.said == ["acquired", "released"]
        assert (o.leadership.leading, o.leadership.changes) == (False, 2)
        assert [line["event"] for line in lines] == ["this agent leads"]


async def raises_lost(_lead: Lead) -> None:
    raise LeadLost("the compare failed")


async def crashes(_lead: Lead) -> None:
    raise ValueError("a mistake")


async def ends(_lead: Lead) -> None:
    return


@pytest.mark.parametrize(
    ("work", "reason", "crashed"),
    [
        (raises_lost, "the compare failed", False),
        (crashes, "its work crashed", True),
        (ends, "its work ended", False),
    ],
)
async def test_work_that_ends_gives_the_lock_back_and_it_is_tried_for_anew(
    etcd: EtcdServer, etcd_prefix: str, work: Work, reason: str, crashed: bool
) -> None:
    async with office(etcd, etcd_prefix) as o:
        with capture_logs() as lines:
            async with o.running(work):
                second = await o.wins(2)
                assert second.epoch > o.leads[0].epoch
                assert o.lock.said[:3] == ["acquired", "released", "acquired"]
        assert _first(lines, "this agent does not lead")["reason"] == reason
        assert any(line["log_level"] == "error" for line in lines) is crashed


async def test_a_lost_lock_ends_the_work(etcd: EtcdServer, etcd_prefix: str) -> None:
    ended: list[bool] = []

    async def work(won: Lead) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(won.holds())

    async with office(etcd, etcd_prefix) as o, o.running(work):
        await o.wins(1)
        o.lock.lost.set()
        await o.wins(2)
        assert ended == [False]
        assert o.leadership.changes == 3


async def test_when_cancelled_the_work_ends_before_the_lock_is_given_back(etcd: EtcdServer, etcd_prefix: str) -> None:
    async with office(etcd, etcd_prefix) as o:

        async def work(_lead: Lead) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.05)
                o.lock.said.append("work ended")

        async with o.running(work):
            await o.wins(1)
        assert o.lock.said == ["acquired", "work ended", "released"]


async def test_an_epoch_written_by_another_one_fails_the_fence(etcd: EtcdServer, etcd_prefix: str) -> None:
    async with office(etcd, etcd_prefix) as o, office(etcd, etcd_prefix) as other:
        async with o.running(forever):
            mine = await o.wins(1)
            async with other.running(forever):
                theirs = await other.wins(1)
                assert theirs.epoch > mine.epoch
                done = [
                    (await o.client.txn([each.fence(etcd_prefix)], [Put(f"{etcd_prefix}/x", b"")])).succeeded
                    for each in (mine, theirs)
                ]
                assert done == [False, True]


@dataclass
class LockOfAnother(OpenLock):
    """It believes to have it, and etcd says otherwise the first time."""

    asked: int = 0

    def conditions(self) -> list[Compare]:
        self.asked += 1
        return [unchanged("/nothing/of/the/kind", 7 if self.asked == 1 else 0)]


async def test_without_the_lock_in_etcd_no_epoch_is_written(etcd: EtcdServer, etcd_prefix: str) -> None:
    async with office(etcd, etcd_prefix) as o:
        o.lock = LockOfAnother()
        with capture_logs() as lines:
            async with o.running(forever):
                await o.wins(1)
                row = await o.client.get(epoch_key(etcd_prefix))
                assert row is not None
                assert row.version == 1
        assert o.lock.said == ["acquired", "released", "acquired", "released"]
        assert _first(lines, "this agent does not lead")["reason"] == "another agent was faster"


async def test_with_a_lock_in_etcd_and_a_second_agent(etcd: EtcdServer, etcd_prefix: str) -> None:
    async with office(etcd, etcd_prefix) as one, office(etcd, etcd_prefix) as two:
        boards = [Leadership(f"agent-{n}") for n in (1, 2)]
        wins = [asyncio.Event(), asyncio.Event()]

        def run(n: int, client: EtcdClient) -> asyncio.Task[None]:
            async def work(_lead: Lead) -> None:
                wins[n].set()
                await asyncio.Event().wait()

            lock = EtcdLock(client, etcd_prefix, boards[n].holder)
            return asyncio.create_task(lead(lock, client, etcd_prefix, work, boards[n]))

        async with asyncio.timeout(10):
            first = run(0, one.client)
            await wins[0].wait()
            second = run(1, two.client)
            await asyncio.sleep(0.1)
            assert not boards[1].leading
            first.cancel()
            await asyncio.wait([first])
            await wins[1].wait()
            assert [board.leading for board in boards] == [False, True]
            assert boards[1].epoch > boards[0].epoch
            second.cancel()
            await asyncio.wait([second])
        assert await one.client.get(f"{etcd_prefix}/agent/leader") is None


class ForgetfulEtcd(EtcdClient):
    """One whose first transaction is done, and its answer lost."""

    lost = False

    async def txn(self, *arguments: object, **named: object) -> object:  # type: ignore[override]
        done = await super().txn(*arguments, **named)  # type: ignore[arg-type]
        if not self.lost:
            self.lost = True
            raise StoreUnavailable("the answer was lost")
        return done


async def test_a_lost_answer_is_read_back(etcd: EtcdServer, etcd_prefix: str) -> None:
    async with ForgetfulEtcd(EtcdOptions(endpoints=(etcd.endpoint,))) as client:
        o = Office(client, etcd_prefix)
        async with o.running(forever):
            won = await o.wins(1)
            row = await client.get(epoch_key(etcd_prefix))
            assert row is not None
            assert (row.version, row.mod_revision) == (1, won.epoch)


async def test_a_mistake_of_the_lock_does_not_end_it(etcd: EtcdServer, etcd_prefix: str) -> None:
    class Broken(OpenLock):
        async def acquire(self) -> None:
            if not self.said:
                self.said.append("broken")
                raise ValueError("a mistake")
            await super().acquire()

    async with office(etcd, etcd_prefix) as o:
        o.lock = Broken()
        async with o.running(forever):
            await o.wins(1)
        assert o.lock.said == ["broken", "released", "acquired", "released"]


def _first(lines: list[EventDict], event: str) -> EventDict:
    return next(line for line in lines if str(line["event"]).startswith(event))
