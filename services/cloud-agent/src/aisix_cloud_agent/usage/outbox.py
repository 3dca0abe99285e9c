"""The delivery of usage events to the Cloud: which streams there are, and whose turn it is (design 9).

What is done with one stream is `stream`'s, when the Cloud may be called the `gate`'s. The outbox is looked at
once a second, and never held: of each stream one batch is read at a time, so a backlog of any length costs the same.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Final, NoReturn

from aisix_common.clock import Clock
from aisix_common.errors import StoreError
from aisix_common.logs import Logger
from aisix_common.managed.outbox import DamagedBatch, batch_name, outbox_root, stream_root
from aisix_common.metrics import Metrics
from aisix_common.settings.control import Usage
from aisix_common.store.client import EtcdClient
from aisix_common.store.types import KeyValue

from ..cloud.link import Link
from ..flow.crew import Crew
from ..flow.gate import Gate
from ..flow.told import Told
from ..flow.waiting import LOOP_TIME, Time
from ..lead.lead import Lead
from .batches import read_batch
from .metrics import Drops, OutboxMetrics
from .stream import Desk, UsageStream, about_events

MOST_AT_ONCE: Final = 24
"""Streams that are delivered at the same time, one call each: 24,000 events a second with a Cloud that takes 100 ms,
still 4,000 with one that takes 600. Together with the budget checks and heartbeats they find connections enough."""
MOST_STREAMS: Final = 1000
"""Streams that are known at a time; others come when one of these is empty."""
SCAN_SECONDS: Final = 1.0
_SCAN_SHARE: Final = 20
"""A look that takes long, as very much lies there, is taken so many times more rarely than that."""
_LONGEST_SCAN: Final = 15.0


@dataclass(frozen=True, slots=True)
class OutboxStatus:
    """For `/status/cloud`."""

    backlog: int
    """Batches that wait."""
    oldest: datetime | None
    """When the oldest event that waits happened."""
    set_aside: int
    """Batches with events that the Cloud refuses."""
    last_success: datetime | None
    trouble: str
    """Why nothing is delivered; empty: all is well."""


class Outbox:
    """See the module. One instance for the life of the process; `run` while this agent leads."""

    def __init__(
        self,
        local: EtcdClient,
        link: Link,
        run_root: str,
        *,
        clock: Clock,
        chance: Random,
        log: Logger,
        metrics: Metrics,
        usage: Usage,
        time: Time = LOOP_TIME,
    ) -> None:
        self._local = local
        self._link = link
        self._run_root = run_root
        self._clock = clock
        self._chance = chance
        self._log = log
        self._usage = usage
        self._time = time
        self._metrics = OutboxMetrics(metrics)
        self._drops = Drops(self._metrics, log, time.monotonic)
        self._reads = Told(log, "the outbox cannot be read; usage events wait", "the outbox can be read again")
        self._deletes = Told(
            log,
            "batches that were delivered cannot be deleted from the outbox; they are delivered again",
            "batches can be deleted from the outbox again",
        )
        self._shift: _Shift | None = None
        metrics.before_collect(self._refresh)

    @property
    def status(self) -> OutboxStatus:
        shift = self._shift
        last_success = self._metrics.last_success
        if shift is None:
            return OutboxStatus(0, None, 0, last_success, "")
        aside = sum(stream.aside for stream in shift.streams.values())
        trouble = self._reads.trouble or self._deletes.trouble or shift.desk.gate.trouble
        return OutboxStatus(shift.backlog, shift.oldest, aside, last_success, trouble)

    async def run(self, lead: Lead) -> NoReturn:
        """Deliver until cancelled. Raises LeadLost."""
        gate = Gate(self._link, self._time.monotonic, self._chance, self._log, what="usage events", about=about_events)
        desk = Desk(
            self._local,
            self._run_root,
            lead,
            gate,
            self._clock,
            self._time,
            self._chance,
            timedelta(seconds=self._usage.max_age_secs),
            self._metrics,
            self._drops,
            self._deletes,
        )
        self._shift = shift = _Shift(desk, self._reads)
        try:
            async with Crew() as crew:
                crew.start(shift.run(crew), name="usage streams")
                await crew.failure()
        finally:
            self._shift = None

    def _refresh(self) -> None:
        status = self.status
        self._metrics.backlog.set(status.backlog)
        age = (self._clock.now() - status.oldest).total_seconds() if status.oldest is not None else 0.0
        self._metrics.age.set(max(age, 0.0))


class _Shift:
    """What is known while one lead lasts."""

    def __init__(self, desk: Desk, reads: Told) -> None:
        self.desk = desk
        self._reads = reads
        self.streams: dict[str, UsageStream] = {}
        self.backlog = 0
        self._heads: dict[str, tuple[str, int, datetime | None]] = {}
        """Of each stream its first row: key, revision, and when its first event happened."""
        self._waiting: deque[str] = deque()
        self._working: set[str] = set()
        self._woken = asyncio.Event()

    @property
    def oldest(self) -> datetime | None:
        return min((at for _, _, at in self._heads.values() if at is not None), default=None)

    async def run(self, crew: Crew) -> NoReturn:
        next_scan = self.desk.time.monotonic()
        while True:
            self.desk.lead.require()
            if self.desk.time.monotonic() >= next_scan:
                next_scan = await self._scan()
            while self._waiting and len(self._working) < MOST_AT_ONCE:
                name = self._waiting.popleft()
                self._working.add(name)
                crew.start(self._work(name, self.streams[name]), name=f"usage stream {name}")
            self._woken.clear()
            await self.desk.time.wait(self._woken, max(next_scan - self.desk.time.monotonic(), 0.0))

    async def _work(self, name: str, stream: UsageStream) -> None:
        more = await stream.turn()
        self._working.discard(name)
        if more:
            self._waiting.append(name)
        self._woken.set()

    async def _scan(self) -> float:
        """See which streams there are, and queue those that can be delivered; when to look again."""
        began = self.desk.time.monotonic()
        try:
            heads = await self._read_heads()
        except StoreError as error:
            self._reads.began(str(error))
            return self.desk.time.monotonic() + SCAN_SECONDS
        self._reads.ended()
        if not heads:
            self.desk.deletes.ended()
        self._heads = heads
        for name in self.streams.keys() - heads.keys() - self._working - set(self._waiting):
            del self.streams[name]
        for name in heads:
            stream = self.streams.setdefault(name, UsageStream(name, self.desk))
            if name not in self._working and name not in self._waiting and stream.ready():
                self._waiting.append(name)
        took = self.desk.time.monotonic() - began
        return began + min(max(SCAN_SECONDS, _SCAN_SHARE * took), _LONGEST_SCAN)

    async def _read_heads(self) -> dict[str, tuple[str, int, datetime | None]]:
        """The first row of each stream: one read for each stream, whatever lies behind it. Raises StoreError."""
        root = outbox_root(self.desk.run_root)
        heads: dict[str, tuple[str, int, datetime | None]] = {}
        start = after = ""
        while len(heads) < MOST_STREAMS:
            page = await self.desk.local.page(root, start=start, after=after, limit=1)
            if not (start or after):
                self.backlog = page.count
            if not page.rows:
                break
            row = page.rows[0]
            name = batch_name(self.desk.run_root, row.key)
            if name is None:
                await self._discard(row)
                start, after = "", row.key
                continue
            heads[name.stream] = self._head(name.stream, row)
            start, after = stream_root(self.desk.run_root, name.stream)[:-1] + chr(ord("/") + 1), ""
        return heads

    async def _discard(self, row: KeyValue) -> None:
        """A row that is no batch by its key."""
        if await self.desk.delete(row.key, row.mod_revision):
            self.desk.metrics.batches["damaged"].add()
            self.desk.drops.add("damaged", (), 1)

    def _head(self, name: str, row: KeyValue) -> tuple[str, int, datetime | None]:
        known = self._heads.get(name)
        if known is not None and known[:2] == (row.key, row.mod_revision):
            return known
        try:
            return row.key, row.mod_revision, read_batch(row.value).oldest
        except DamagedBatch:
            return row.key, row.mod_revision, None
