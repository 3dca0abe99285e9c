"""Keeps the index beside etcd: one watch, and a way to wait until it has caught up.

Knows nothing of documents beyond what the index reads of them. Reads do not come from here: they go to etcd.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from datetime import datetime
from typing import Final, cast

from aisix_common.clock import Clock
from aisix_common.logs import Logger
from aisix_common.store.types import Lost, WatchEvent

from .index import ResourceIndex


class Follower:
    """Applies what the watcher delivers to `index`. `run` is to be owned by a task for the life of the service."""

    def __init__(
        self, events: Callable[[], AsyncIterator[WatchEvent]], index: ResourceIndex, clock: Clock, log: Logger
    ) -> None:
        self._events = events
        self._clock = clock
        self._log = log
        self._moved = asyncio.Event()
        self.index: Final = index
        self.heard_at: datetime | None = None
        """When etcd last told us anything, or None before the first list."""
        self.connected: bool | None = None
        """Whether etcd answers; None before anything is known."""

    async def run(self) -> None:
        """Follow until cancelled."""
        # Closed at once when cancelled, not when the garbage collector finds it: it holds a stream to etcd.
        generator = cast("AsyncGenerator[WatchEvent, None]", self._events())
        async with aclosing(generator) as events:
            async for event in events:
                self._take(event)

    async def until(self, reached: Callable[[], bool]) -> None:
        """Return once `reached()` holds; it is asked again after every delivery. The caller brings the deadline."""
        while not reached():
            await self._moved.wait()

    def _take(self, event: WatchEvent) -> None:
        if isinstance(event, Lost):
            if self.connected is not False:  # the watcher tries for ever: once per outage is enough
                self._log.warning("etcd cannot be followed; trying on", reason=event.reason)
            self.connected = False
            return
        if self.connected is False:
            self._log.info("etcd is followed again")
        self.connected = True
        self.heard_at = self._clock.now()
        self.index.apply(event)
        self._moved.set()
        self._moved = asyncio.Event()
