"""A log that is kept, a clock that is told, and a watch that is a script."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any, cast

import structlog

from aisix_common.logs import Logger
from aisix_common.store.client import EtcdClient
from aisix_common.store.types import WatchEvent

from tests.common.snapshot.rows import NOON

NO_CLIENT = cast("EtcdClient", None)
"""The scripted watch asks nobody."""


class Log:
    """`log` goes to the code under test; `lines` is what it said."""

    def __init__(self) -> None:
        capture = structlog.testing.LogCapture()
        self.log: Logger = structlog.wrap_logger(None, processors=[capture], wrapper_class=structlog.stdlib.BoundLogger)
        self._capture = capture

    @property
    def lines(self) -> list[Any]:
        """Every line as a dict."""
        return list(self._capture.entries)

    def said(self, event: str) -> bool:
        """Whether a line begins so."""
        return any(line["event"].startswith(event) for line in self.lines)


class SetClock:
    """A clock that stands still until moved."""

    def __init__(self) -> None:
        self.time = NOON

    def now(self) -> datetime:
        return self.time

    def advance(self, **delta: float) -> None:
        """Move on."""
        self.time += timedelta(**delta)


class Script:
    """A watch that yields what it is fed; `consumed` waits until all of it was dealt with."""

    def __init__(self) -> None:
        self.prefixes: list[str] = []
        self.closed = False
        self._events: asyncio.Queue[WatchEvent] = asyncio.Queue()

    async def watch(self, client: EtcdClient, prefix: str) -> AsyncIterator[WatchEvent]:
        self.prefixes.append(prefix)
        try:
            while True:
                yield await self._events.get()
                self._events.task_done()
        finally:
            self.closed = True

    async def feed(self, *events: WatchEvent) -> None:
        """Yield `events`; returns when the source has asked for the next."""
        for event in events:
            self._events.put_nowait(event)
        async with asyncio.timeout(10):
            await self._events.join()
