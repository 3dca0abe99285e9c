"""Keeps the name index beside etcd: one watch, and a way to wait until it has caught up.

Knows nothing of documents beyond their names. The admin never answers a GET from here: reads go to etcd.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Final

from aisix_common.clock import Clock
from aisix_common.store.types import Lost, WatchEvent

from .names import NameIndex


class Follower:
    """Applies what the watcher delivers to `index`. `run` is to be owned by a task for the life of the service."""

    def __init__(self, events: Callable[[], AsyncIterator[WatchEvent]], index: NameIndex, clock: Clock) -> None:
        self._events = events
        self._clock = clock
        self._moved = asyncio.Event()
        self.index: Final = index
        self.heard_at: datetime | None = None
        """When etcd last told us anything, or None before the first list."""
        self.connected = False

    async def run(self) -> None:
        """Follow until cancelled."""
        async for event in self._events():
            if isinstance(event, Lost):
                self.connected = False
                continue
            self.index.apply(event)
            self.heard_at = self._clock.now()
            self.connected = True
            self._moved.set()
            self._moved = asyncio.Event()

    async def until(self, reached: Callable[[], bool]) -> None:
        """Return once `reached()` holds; it is asked again after every delivery. The caller brings the deadline."""
        while not reached():
            await self._moved.wait()
