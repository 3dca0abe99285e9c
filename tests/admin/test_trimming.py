"""History and audit within their share of a real etcd; time and waiting are the test's."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
import structlog

from aisix_admin.audit import key_of
from aisix_admin.rows import Roots
from aisix_admin.trimming import INTERVAL_SECONDS, LOOK_SECONDS, Trimmer
from aisix_common.errors import StoreUnavailable
from aisix_common.logs import Logger
from aisix_common.store.client import EtcdClient, EtcdOptions
from aisix_common.store.types import Compare, KeyValue, Operation, RangeResult, TransactionResult
from aisix_common.tasks import TaskOwner

from tests.support.etcd import EtcdServer

NOW = datetime(2026, 4, 1, tzinfo=UTC)
LARGE = 1024 * 1024


class Still:
    def now(self) -> datetime:
        return NOW


@pytest.fixture
async def client(etcd: EtcdServer) -> AsyncIterator[EtcdClient]:
    async with EtcdClient(EtcdOptions(endpoints=(etcd.endpoint,))) as connected:
        yield connected


@pytest.fixture
def roots(etcd_prefix: str) -> Roots:
    return Roots(f"{etcd_prefix}/aisix", f"{etcd_prefix}/run", f"{etcd_prefix}/ext")


class Watched:
    """An etcd client that lets the test act between two calls, and be away."""

    def __init__(self, client: EtcdClient) -> None:
        self._client = client
        self.away = False
        self.passes = 0
        self.before_delete: list[str] = []
        """Keys that others write just before we delete."""

    async def get(self, key: str) -> KeyValue | None:
        return await self._client.get(key)

    async def range(self, prefix: str, *, limit: int = 0, revision: int = 0) -> RangeResult:
        return await self._client.range(prefix, limit=limit, revision=revision)

    async def page(
        self, prefix: str, *, after: str = "", limit: int, start: str = "", revision: int = 0
    ) -> RangeResult:
        self.passes += prefix.endswith("/audit/") and not after
        if self.away:
            raise StoreUnavailable("etcd is away")
        return await self._client.page(prefix, after=after, limit=limit, start=start, revision=revision)

    async def together(self, keys: Sequence[str]) -> tuple[tuple[KeyValue | None, ...], int]:
        return await self._client.together(keys)

    async def txn(
        self, compare: Sequence[Compare], success: Sequence[Operation], failure: Sequence[Operation] = ()
    ) -> TransactionResult:
        while self.before_delete:
            await self._client.put(self.before_delete.pop(), b"written by others")
        return await self._client.txn(compare, success, failure)


class Naps:
    """Sleeps for as long as the test lets it, and notes for how long it was asked to."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self._gate = asyncio.Semaphore(0)
        self._asleep = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        self._asleep.set()
        await self._gate.acquire()

    async def until_asleep(self) -> None:
        await self._asleep.wait()

    async def pass_by(self, times: int = 1) -> None:
        """Let `times` naps end, and wait for the one after."""
        for _ in range(times):
            self._asleep.clear()
            self._gate.release()
            await self._asleep.wait()


def trimmer(
    client: EtcdClient | Watched,
    roots: Roots,
    *,
    history_bytes: int = LARGE,
    audit_bytes: int = LARGE,
    sleep: Naps | None = None,
) -> tuple[Trimmer, structlog.testing.LogCapture]:
    lines = structlog.testing.LogCapture()
    log = structlog.wrap_logger(None, processors=[lines], wrapper_class=structlog.make_filtering_bound_logger(0))
    made = Trimmer(
        client,
        roots,
        Still(),
        cast("Logger", log),
        audit_days=90,
        history_bytes=history_bytes,
        audit_bytes=audit_bytes,
        sleep=sleep or Naps(),
    )
    return made, lines


async def audits(client: EtcdClient, roots: Roots, ages: Sequence[timedelta], size: int = 100) -> list[str]:
    """Rows of these ages; their keys, which have one length."""
    keys = [roots.audit(key_of(NOW - age, f"{n:04}")) for n, age in enumerate(ages)]
    for key in keys:
        await client.put(key, b"x" * (size - len(key)))
    return keys


async def histories(client: EtcdClient, roots: Roots, ids: Sequence[str], size: int = 100) -> list[str]:
    """Rows in the order in which they were last written."""
    keys = [roots.history("models", id) for id in ids]
    for key in keys:
        await client.put(key, b"x" * (size - len(key)))
    return keys


async def left(client: EtcdClient, prefix: str) -> list[str]:
    return [row.key for row in (await client.range(prefix)).rows]


async def test_audit_rows_go_when_their_time_is_over(client: EtcdClient, roots: Roots) -> None:
    day = timedelta(days=1)
    keys = await audits(client, roots, [0 * day, 89 * day, 90 * day, 90 * day + timedelta(milliseconds=1), 400 * day])
    made, lines = trimmer(client, roots)
    await made.trim()
    assert await left(client, roots.audit("")) == keys[:3]
    assert [line["rows"] for line in lines.entries] == [2]
    await made.trim()
    assert len(lines.entries) == 1, "nothing to say where nothing was done"


async def test_the_oldest_audit_rows_go_when_there_is_too_much(client: EtcdClient, roots: Roots) -> None:
    keys = await audits(client, roots, [timedelta(hours=n) for n in range(10)])
    made, _ = trimmer(client, roots, audit_bytes=399)
    await made.trim()
    assert await left(client, roots.audit("")) == keys[:3]
    made, _ = trimmer(client, roots, audit_bytes=300)
    await made.trim()
    assert await left(client, roots.audit("")) == keys[:3]


async def test_more_than_a_page_and_more_than_a_transaction(client: EtcdClient, roots: Roots) -> None:
    keys = await audits(client, roots, [timedelta(minutes=n) for n in range(430)])
    await histories(client, roots, [f"{n:03}" for n in range(230)])
    made, lines = trimmer(client, roots, audit_bytes=100 * 50, history_bytes=100 * 20)
    await made.trim()
    assert await left(client, roots.audit("")) == keys[:50]
    assert len(await left(client, f"{roots.run}/history/")) == 20
    assert [line.get("rows") or line.get("resources") for line in lines.entries] == [380, 210]


async def test_histories_go_that_were_not_written_for_the_longest(client: EtcdClient, roots: Roots) -> None:
    await histories(client, roots, ["a", "b", "c", "d"])
    keys = await histories(client, roots, ["c", "a"])
    made, lines = trimmer(client, roots, history_bytes=250)
    await made.trim()
    assert await left(client, f"{roots.run}/history/") == sorted(keys)
    assert [(line["log_level"], line["resources"]) for line in lines.entries] == [("warning", 2)]


async def test_within_its_share_nothing_goes(client: EtcdClient, roots: Roots) -> None:
    keys = await histories(client, roots, ["a", "b"])
    await client.put(roots.resource("models", "a"), b"x" * 500)
    await client.put(f"{roots.run}/turn", b"x" * 500)
    made, lines = trimmer(client, roots, history_bytes=200, audit_bytes=1)
    await made.trim()
    assert await left(client, f"{roots.run}/history/") == keys
    assert len(await left(client, roots.run)) == 3 and await client.get(roots.resource("models", "a"))
    assert not lines.entries


async def test_what_was_written_meanwhile_is_left_for_the_next_pass(client: EtcdClient, roots: Roots) -> None:
    keys = await histories(client, roots, ["a", "b", "c"])
    watched = Watched(client)
    watched.before_delete = [keys[0]]
    made, lines = trimmer(watched, roots, history_bytes=100)
    await made.trim()
    row = await client.get(keys[0])
    assert row is not None and row.value == b"written by others"
    assert not lines.entries, "nothing was deleted"
    await made.trim()
    assert keys[0] in await left(client, f"{roots.run}/history/")
    assert keys[1] not in await left(client, f"{roots.run}/history/")


async def test_a_pass_now_and_then_and_earlier_when_much_was_written(client: EtcdClient, roots: Roots) -> None:
    naps, watched = Naps(), Watched(client)
    made, _ = trimmer(watched, roots, history_bytes=1600, audit_bytes=3200, sleep=naps)
    async with TaskOwner() as tasks, asyncio.timeout(20):
        tasks.spawn(made.run(), name="trim")
        await naps.until_asleep()
        assert watched.passes == 1, "at the start"
        made.wrote(60)
        await naps.pass_by(3)
        assert watched.passes == 1
        made.wrote(40)
        await naps.pass_by()
        assert watched.passes == 2, "a sixteenth of the smaller share"
        await naps.pass_by(int(INTERVAL_SECONDS / LOOK_SECONDS) - 1)
        assert watched.passes == 2
        await naps.pass_by()
        assert watched.passes == 3
    assert set(naps.asked) == {LOOK_SECONDS}


async def test_it_goes_on_after_trouble_and_always_rests(client: EtcdClient, roots: Roots) -> None:
    naps, watched = Naps(), Watched(client)
    watched.away = True
    made, lines = trimmer(watched, roots, history_bytes=0, audit_bytes=0, sleep=naps)
    keys = await audits(client, roots, [timedelta()])
    async with TaskOwner() as tasks, asyncio.timeout(20):
        tasks.spawn(made.run(), name="trim")
        await naps.until_asleep()
        assert [line["log_level"] for line in lines.entries] == ["warning"]
        assert await left(client, roots.audit("")) == keys
        watched.away = False
        made.wrote(1)
        await naps.pass_by()
        assert await left(client, roots.audit("")) == []
