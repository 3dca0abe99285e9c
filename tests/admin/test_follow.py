"""Following a scripted watcher."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import cast

import pytest
import structlog

from aisix_admin.follow import Follower
from aisix_admin.index import ResourceIndex
from aisix_common.logs import Logger
from aisix_common.resources import ALL_KINDS
from aisix_common.store.types import Alive, Changes, KeyValue, Listing, Lost, WatchEvent
from aisix_common.tasks import TaskOwner

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Still:
    def now(self) -> datetime:
        return NOW


class Script:
    """A watcher that delivers what the test puts in, and notes that it was closed."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[WatchEvent] = asyncio.Queue()
        self.closed = False

    async def __call__(self) -> AsyncIterator[WatchEvent]:
        try:
            while True:
                yield await self.queue.get()
        finally:
            self.closed = True


def follower(*scripts: Script) -> tuple[Follower, structlog.testing.LogCapture]:
    lines = structlog.testing.LogCapture()
    log = structlog.wrap_logger(None, processors=[lines], wrapper_class=structlog.make_filtering_bound_logger(0))
    streams = [cast("Callable[[], AsyncIterator[WatchEvent]]", script) for script in scripts]
    index = ResourceIndex("/aisix", ALL_KINDS, ext="/ext/aisix" if len(scripts) > 1 else None)
    return Follower(streams, index, Still(), cast("Logger", log)), lines


async def test_it_follows_until_it_is_cancelled_and_closes_what_it_followed() -> None:
    script = Script()
    following, lines = follower(script)
    async with TaskOwner() as tasks, asyncio.timeout(5):
        tasks.spawn(following.run(), name="follow")
        assert following.connected is None and following.heard_at is None
        for event in (
            Lost("refused"),
            Lost("refused again"),
            Listing((), 5),
            Changes((KeyValue("/aisix/models/1", b'{"display_name": "a"}', 6, 6),), 6),
        ):
            script.queue.put_nowait(event)
        await following.until(lambda: following.index.revision == 6)
        assert following.connected and following.heard_at == NOW
        assert following.index.holders("models", "a") == {"1"}
        script.queue.put_nowait(Lost("gone"))
        script.queue.put_nowait(Alive(9))
        await following.until(lambda: following.index.revision == 9)
    assert script.closed
    assert [line["log_level"] for line in lines.entries] == ["warning", "info", "warning", "info"], "once per outage"


async def test_everybody_who_waits_is_woken() -> None:
    script = Script()
    following, _ = follower(script)
    async with TaskOwner() as tasks, asyncio.timeout(5):
        tasks.spawn(following.run(), name="follow")
        waiters = [
            tasks.spawn(following.until(lambda n=n: following.index.revision >= n), name=f"wait {n}")  # type: ignore[misc]
            for n in (5, 6, 7)
        ]
        for revision in (5, 6, 7):
            script.queue.put_nowait(Alive(revision))
        await asyncio.gather(*waiters)


async def test_what_holds_already_is_not_waited_for() -> None:
    following, _ = follower(Script())
    async with asyncio.timeout(5):
        await following.until(lambda: True)


async def test_two_roots_are_followed_as_one() -> None:
    resources, ext = Script(), Script()
    following, lines = follower(resources, ext)
    index = following.index
    async with TaskOwner() as tasks, asyncio.timeout(5):
        tasks.spawn(following.run(), name="follow")
        resources.queue.put_nowait(Listing((), 5))
        await following.until(lambda: index.revision == 5)
        assert following.connected is None and following.heard_at is None and not index.listed
        ext.queue.put_nowait(Lost("refused"))
        ext.queue.put_nowait(Listing((), 6))
        await following.until(lambda: index.listed)
        assert following.connected and following.heard_at == NOW
        resources.queue.put_nowait(Lost("gone"))
        resources.queue.put_nowait(Alive(7))
        await following.until(lambda: index.revision == 7)
        for each in (resources, ext):
            each.queue.put_nowait(Lost("all of it"))
        for place, each in enumerate((ext, resources)):
            each.queue.put_nowait(Alive(8 + place))
            await following.until(lambda place=place: index.standing[1 - place][1] == 8 + place)
            assert following.connected is (place == 1), "only when all of them are back"
    assert resources.closed and ext.closed
    assert [line["log_level"] for line in lines.entries] == ["warning", "info"] * 3, "once per outage"


async def test_a_root_that_cannot_be_followed_ends_all() -> None:
    async def broken() -> AsyncIterator[WatchEvent]:
        yield Listing((), 1)
        raise RuntimeError("a mistake of ours")

    other = Script()
    following, _ = follower(other, cast("Script", broken))
    with pytest.raises(RuntimeError, match="a mistake"):
        async with asyncio.timeout(5):
            await following.run()
    assert other.closed
