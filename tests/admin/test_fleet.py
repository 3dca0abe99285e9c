"""Who is counted, when a receipt is given, and what is forgotten: on scripted events, then on a real etcd."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import msgspec
import pytest
import structlog

from aisix_admin.fleet import MOST_LOST, Fleet, parse_wait
from aisix_common.logs import Logger
from aisix_common.model_status import ModelNews
from aisix_common.store.client import EtcdClient
from aisix_common.store.options import EtcdOptions
from aisix_common.store.types import Alive, Changes, Deleted, KeyValue, Listing, Lost, WatchEvent
from aisix_common.store.watch import list_and_watch
from aisix_common.tasks import TaskOwner

from tests.support.builders import Clock
from tests.support.etcd import EtcdServer


def log() -> Logger:
    return cast("Logger", structlog.wrap_logger(None, processors=[structlog.testing.LogCapture()]))


def row(id: str, revision: int = 0, **more: Any) -> KeyValue:
    state = {"instance": id, "service": "proxy", "applied_revision": revision, "connected": True, **more}
    return KeyValue(f"/run/aisix/instances/{id}", msgspec.json.encode(state), 1, 1)


def gone(id: str) -> Deleted:
    return Deleted(f"/run/aisix/instances/{id}", 9)


class Script:
    """A fleet that is told what the test says, in the order it says it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.queue: asyncio.Queue[WatchEvent] = asyncio.Queue()
        self.fleet = Fleet(self._events, self.clock, log())

    async def _events(self) -> AsyncIterator[WatchEvent]:
        while True:
            yield await self.queue.get()
            self.queue.task_done()

    async def tell(self, *events: WatchEvent) -> None:
        for event in events:
            self.queue.put_nowait(event)
        await self.queue.join()

    async def change(self, *changes: KeyValue | Deleted) -> None:
        await self.tell(Changes(changes, 9))


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    async with TaskOwner() as tasks:
        made = Script()
        tasks.spawn(made.fleet.run(), name="fleet")
        yield made


async def test_a_receipt_comes_when_everybody_is_there(script: Script) -> None:
    await script.tell(Listing((row("a", 7), row("b", 3)), 8))
    assert await script.fleet.receipt(7, 0) == {"instances": 1, "of": 2, "revision": 7}
    async with TaskOwner() as tasks:
        waiting = tasks.spawn(script.fleet.receipt(7, 30), name="receipt")
        await script.change(row("b", 6))
        assert not waiting.done()
        await script.change(row("b", 9))
        async with asyncio.timeout(2):
            assert await waiting == {"instances": 2, "of": 2, "revision": 7}


async def test_each_root_has_a_revision_of_its_own(script: Script) -> None:
    await script.tell(Listing((row("a", 3, external_revision=7), row("b", 7, external_revision=3)), 8))
    for needs, there in (({True: 7}, 1), ({False: 7}, 1), ({True: 7, False: 7}, 0), ({True: 3, False: 3}, 2), ({}, 2)):
        assert await script.fleet.receipt(7, 0, needs) == {"instances": there, "of": 2, "revision": 7}


async def test_nobody_is_0_of_0_and_at_once(script: Script) -> None:
    await script.tell(Listing((row("agent", 0, service="cloud-agent"),), 8))
    async with asyncio.timeout(2):
        assert await script.fleet.receipt(7, 30) == {"instances": 0, "of": 0, "revision": 7}


async def test_before_the_first_listing_nothing_is_claimed(script: Script) -> None:
    async with TaskOwner() as tasks:
        waiting = tasks.spawn(script.fleet.receipt(7, 30), name="receipt")
        await asyncio.sleep(0)
        assert not waiting.done()
        await script.tell(Listing((row("a", 7),), 8))
        async with asyncio.timeout(2):
            assert (await waiting)["of"] == 1


async def test_one_that_is_cut_off_from_etcd_has_not_applied(script: Script) -> None:
    await script.tell(Listing((row("a", 7, connected=False),), 8))
    assert await script.fleet.receipt(7, 0.01) == {"instances": 0, "of": 1, "revision": 7}


async def test_the_lost_are_counted_for_ten_minutes(script: Script) -> None:
    await script.tell(Listing((row("a", 7), row("b", 7)), 8))
    await script.change(gone("b"))
    assert await script.fleet.receipt(7, 0) == {"instances": 1, "of": 2, "revision": 7}
    (lost,) = script.fleet.lost()
    assert (lost.id, lost.shown()["lost_at"], lost.shown()["connected"]) == ("b", "2026-11-20T12:00:00Z", False)
    script.clock.move(600)
    assert (await script.fleet.receipt(7, 0))["of"] == 2
    script.clock.move(0.1)
    assert (await script.fleet.receipt(7, 0)) == {"instances": 1, "of": 1, "revision": 7}
    assert script.fleet.lost() == []


async def test_who_comes_back_is_not_lost(script: Script) -> None:
    await script.tell(Listing((row("a", 7),), 8))
    await script.change(gone("a"))
    await script.change(row("a", 8))
    assert script.fleet.lost() == []
    assert (await script.fleet.receipt(7, 0)) == {"instances": 1, "of": 1, "revision": 7}


async def test_who_stops_on_purpose_is_not_missed(script: Script) -> None:
    await script.tell(Listing((row("a", 7), row("b", 3)), 8))
    await script.change(row("b", 3, stopping=True))
    assert await script.fleet.receipt(7, 0) == {"instances": 1, "of": 1, "revision": 7}
    await script.change(row("b", 3), gone("b"))
    assert script.fleet.lost() == [], "an older write that came late takes nothing back"
    assert [one.id for one in script.fleet.live()] == ["a"]


async def test_a_listing_replaces_what_was_known(script: Script) -> None:
    await script.tell(Listing((row("a"), row("b")), 8), Lost("away"), Lost("away"))
    assert len(script.fleet.live()) == 2, "while etcd is away they are what they were"
    await script.tell(Listing((row("b"), row("c")), 9), Alive(10))
    assert [one.id for one in script.fleet.live()] == ["b", "c"]
    assert [one.id for one in script.fleet.lost()] == ["a"]


async def test_rows_that_cannot_be_read_hide_nothing(script: Script) -> None:
    bad = [KeyValue(f"/run/aisix/instances/x{n}", raw, 1, 1) for n, raw in enumerate((b"", b"[]", b'{"models": 3}'))]
    odd = KeyValue("/run/aisix/instances/odd", b'{"later": {"a": 1}}', 1, 1)
    await script.tell(Listing((*bad, odd, row("a", 7)), 8))
    assert [one.id for one in script.fleet.live()] == ["odd", "a"]
    await script.change(KeyValue("/run/aisix/instances/a", b"broken", 1, 1))
    assert script.fleet.live()[-1].row.applied_revision == 7


async def test_memory_of_the_lost_is_bounded(script: Script) -> None:
    ids = [f"i{n}" for n in range(MOST_LOST + 50)]
    await script.tell(Listing(tuple(map(row, ids)), 8), Listing((), 9))
    assert len(script.fleet.lost()) == MOST_LOST


async def test_the_worst_view_of_a_model_counts(script: Script) -> None:
    one = row("a", models={"m": 1, "n": 1}, reasons={"m": "request_timeout"})
    other = row("b", models={"m": 2}, reasons={"m": "transport_error"})
    await script.tell(Listing((one, other), 8))
    assert script.fleet.news() == ModelNews({"m": 2, "n": 1}, {"m": "transport_error"})
    await script.change(gone("b"))
    assert script.fleet.news().levels == {"m": 1, "n": 1}, "the lost have no say"
    assert script.fleet.live()[0].shown()["models"] == {
        "m": {"health": 1, "reason": "request_timeout"},
        "n": {"health": 1},
    }


async def test_on_a_real_etcd(etcd: EtcdServer, etcd_prefix: str) -> None:
    async with EtcdClient(EtcdOptions(endpoints=(etcd.endpoint,))) as client, TaskOwner() as tasks:
        fleet = Fleet(lambda: list_and_watch(client, f"{etcd_prefix}/instances/"), Clock(), log())
        tasks.spawn(fleet.run(), name="fleet")
        state = {"service": "proxy", "connected": True, "applied_revision": 5}
        await client.put(f"{etcd_prefix}/instances/a", msgspec.json.encode(state))
        while not fleet.live():
            await asyncio.sleep(0.01)
        waiting = tasks.spawn(fleet.receipt(6, 20), name="receipt")
        await client.put(f"{etcd_prefix}/instances/a", msgspec.json.encode(state | {"applied_revision": 6}))
        async with asyncio.timeout(10):
            assert await waiting == {"instances": 1, "of": 1, "revision": 6}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5s", 5), ("500ms", 0.5), ("5", 5), ("0", 0), ("30s", 30), ("30000ms", 30), ("1.5", 1.5), ("0.5s", 0.5)],
)
def test_waits(text: str, seconds: float) -> None:
    assert parse_wait(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "-1", "31", "30.1s", "30001ms", "5m", " 5", "5 s", "5s\n", "nan", "inf", "1e1", "٥", "0x1"]
)
def test_no_waits(text: str) -> None:
    with pytest.raises(ValueError, match="from 0 to 30 seconds") as caught:
        parse_wait(text)
    assert len(text) < 4 or text not in str(caught.value)
