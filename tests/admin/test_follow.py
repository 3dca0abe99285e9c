"""Following a scripted watcher."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import cast

import structlog

from aisix_admin.follow import Follower
from aisix_admin.index import ResourceIndex
from aisix_common.logs import Logger
from aisix_common.resources import KINDS
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


def follower(script: Script) -> tuple[Follower, structlog.testing.LogCapture]:
    lines = structlog.testing.LogCapture()
    log = structlog.wrap_logger(None, processors=[lines], wrapper_class=structlog.make_filtering_bound_logger(0))
    events = cast("Callable[[], AsyncIterator[WatchEvent]]", script)
    return Follower([events], ResourceIndex("/aisix", KINDS), Still(), cast("Logger", log)), lines


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
