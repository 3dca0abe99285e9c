"""A consumer of `list_and_watch` for tests: it applies what it is told, and fails on anything doubled or disordered.

async with Follower(client, "/x/") as follower:
    await follower.until(lambda: "/x/1" in follower.rows)
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from types import TracebackType
from typing import Self

from aisix_common.store.client import EtcdClient
from aisix_common.store.types import Alive, Changes, KeyValue, Listing, Lost
from aisix_common.store.watch import WatchTuning, list_and_watch

QUICK = WatchTuning(probe_interval=0.3, answer_timeout=1.0, first_delay=0.02, longest_delay=0.2)


class Follower:
    """Runs the watch in a task of its own while entered."""

    def __init__(self, client: EtcdClient, prefix: str, tuning: WatchTuning = QUICK) -> None:
        self.rows: dict[str, KeyValue] = {}
        self.revision = 0
        self.listings = 0
        self.alive = 0
        self.applied: list[tuple[str, int]] = []
        """Key and revision of every change since the last listing."""
        self.batches: list[int] = []
        self.lost: list[str] = []
        self._client, self._prefix, self._tuning = client, prefix, tuning
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def until(self, condition: Callable[[], bool], timeout: float = 10.0) -> None:
        """Wait until `condition` holds, looking after every event. Fails with what was seen."""
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    assert self._task is not None
                    if self._task.done():
                        await self._task
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"not within {timeout} s: {self}")

    def __repr__(self) -> str:
        return (
            f"{len(self.rows)} rows at {self.revision}, {self.listings} listings, {len(self.applied)} changes, "
            f"alive {self.alive}, lost {self.lost[-3:]}"
        )

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled() and error is None:
            self._task.result()

    async def _run(self) -> None:
        async with aclosing(list_and_watch(self._client, self._prefix, self._tuning)) as events:
            async for event in events:
                match event:
                    case Listing(rows, revision):
                        self.rows = {row.key: row for row in rows}
                        assert len(self.rows) == len(rows)
                        self.revision, self.applied = revision, []
                        self.listings += 1
                    case Changes():
                        self._apply(event)
                    case Alive(revision):
                        assert revision >= self.revision
                        self.revision = revision
                        self.alive += 1
                    case Lost(reason):
                        self.lost.append(reason)
                self._news.set()

    def _apply(self, changes: Changes) -> None:
        assert changes.events
        self.batches.append(len(changes.events))
        for change in changes.events:
            assert change.mod_revision > self.revision, "a change came twice, late, or in half"
            self.applied.append((change.key, change.mod_revision))
            if isinstance(change, KeyValue):
                self.rows[change.key] = change
            else:
                self.rows.pop(change.key, None)
        revisions = [change.mod_revision for change in changes.events]
        assert revisions == sorted(revisions)
        assert changes.revision == revisions[-1]
        self.revision = changes.revision
