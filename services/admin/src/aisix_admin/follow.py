"""Keeps the index beside etcd: a watch of each root, and a way to wait until it has caught up.

Knows nothing of documents beyond what the index reads of them. Reads do not come from here: they go to etcd.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Final, TypeAlias, cast

from aisix_common.clock import Clock
from aisix_common.logs import Logger
from aisix_common.store.types import Lost, WatchEvent
from aisix_common.tasks import TaskOwner

from .index import ResourceIndex

Stream: TypeAlias = Callable[[], AsyncIterator[WatchEvent]]
"""A new list + watch of everything under one root."""


class Follower:
    """Applies what the watchers deliver to `index`. `run` is to be owned by a task for the life of the service."""

    def __init__(self, streams: Sequence[Stream], index: ResourceIndex, clock: Clock, log: Logger) -> None:
        """`streams` of the index's roots, in their order."""
        self._streams = tuple(streams)
        self._clock = clock
        self._log = log
        self._moved = asyncio.Event()
        self._links: list[bool | None] = [None] * len(self._streams)
        self._heard: list[datetime | None] = [None] * len(self._streams)
        self.index: Final = index

    @property
    def heard_at(self) -> datetime | None:
        """When etcd last told us anything of every root; None before each was listed."""
        moments = [moment for moment in self._heard if moment is not None]
        return min(moments) if len(moments) == len(self._heard) else None

    @property
    def connected(self) -> bool | None:
        """Whether etcd answers for every root; None before that is known."""
        return False if False in self._links else None if None in self._links else True

    async def run(self) -> None:
        """Follow until cancelled."""
        async with TaskOwner() as tasks:
            await asyncio.gather(
                *(
                    tasks.spawn(self._follow(root, stream), name=f"follow {root}")
                    for root, stream in enumerate(self._streams)
                )
            )

    async def _follow(self, root: int, stream: Stream) -> None:
        # Closed at once when cancelled, not when the garbage collector finds it: it holds a stream to etcd.
        generator = cast("AsyncGenerator[WatchEvent, None]", stream())
        async with aclosing(generator) as events:
            async for event in events:
                self._take(root, event)

    async def until(self, reached: Callable[[], bool]) -> None:
        """Return once `reached()` holds; it is asked again after every delivery. The caller brings the deadline."""
        while not reached():
            await self._moved.wait()

    def _take(self, root: int, event: WatchEvent) -> None:
        before = self.connected
        self._links[root] = not isinstance(event, Lost)
        if isinstance(event, Lost):
            if before is not False:  # the watcher tries for ever: once per outage is enough
                self._log.warning("etcd cannot be followed; trying on", reason=event.reason)
            return
        if before is False and self.connected is not False:
            self._log.info("etcd is followed again")
        self._heard[root] = self._clock.now()
        self.index.apply(event, root)
        self._moved.set()
        self._moved = asyncio.Event()
