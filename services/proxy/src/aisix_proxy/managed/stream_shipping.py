"""From one stream on disk to the outbox: batch after batch, in order, each at least once (design 9).

A batch is numbered by the position behind its last event, and that position is noted once etcd has it. A crash between
the two repeats events in a batch with another number, which does no harm: the Cloud knows an event by its request and
attempt. What etcd did not take is put again as it is, so that a lost answer repeats nothing.

At most MOST_OF_STREAM batches of a stream wait in etcd, and MOST_WAITING of all together; the rest waits on disk.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from aisix_common.managed.outbox import (
    MOST_EVENTS,
    MOST_VALUE,
    MOST_WAITING,
    BatchName,
    batch_key,
    batch_name,
    outbox_root,
    packed,
    stream_root,
)
from aisix_common.store.client import EtcdClient

from . import usage_stream
from .usage_metrics import UsageMetrics
from .usage_stream import Written

T = TypeVar("T")

MOST_OF_STREAM: Final = 64
_WITHOUT_LOOKING: Final = 8
"""Batches that are put until it is looked again how many wait."""
_PAGE: Final = 8


class Shipped(Enum):
    """How one step went."""

    SOME = auto()
    """A batch is in the outbox."""
    NOTHING = auto()
    """There is none, or none yet."""
    FULL = auto()
    """The outbox has to be emptied first."""


@dataclass(frozen=True, slots=True)
class Way:
    """What all streams of a process are shipped by."""

    client: EtcdClient
    run_root: str
    disk: Executor
    """One thread: what happens on disk happens one after the other."""
    metrics: UsageMetrics

    async def on_disk(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises."""
        return await asyncio.get_running_loop().run_in_executor(self.disk, work)


@dataclass(frozen=True, slots=True)
class _Batch:
    end: int
    value: bytes
    events: int
    oldest: float
    """When its first event occurred, in seconds of wall time; 0: unknown."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A look at the stream: where to go on, what was left out, and the batch if there is one to be sent."""

    end: int
    torn: int
    batch: _Batch | None


class StreamShipping:
    """One stream, which is ours."""

    def __init__(self, way: Way, folder: Path, written: Callable[[], Written] | None = None) -> None:
        """`written`: of a journal at work; None: of one whose process is gone."""
        self.folder: Final = folder
        self._way = way
        self._written = written
        self._position = 0
        self._batch: _Batch | None = None
        self._resumed = written is not None  # a journal at work began with this process
        self._room = 0
        self._one = asyncio.Lock()

    @property
    def reached(self) -> int:
        """The position up to which events are in the outbox, or in our hands on the way there."""
        return self._position if self._batch is None else self._batch.end

    @property
    def oldest(self) -> float:
        """When the first event occurred that is held up, in seconds of wall time; 0: none is."""
        return 0.0 if self._batch is None else self._batch.oldest

    @property
    def written(self) -> Written | None:
        """How far the stream's journal has come, if it is at work."""
        return None if self._written is None else self._written()

    async def ship(self, *, due: bool) -> Shipped:
        """The next batch; unless `due`, one that could still become larger is left for later. Raises StoreError, and
        OSError for a disk that cannot be read."""
        async with self._one:
            if not self._resumed:
                await self._resume()
            if self._batch is None and not await self._take(due=due):
                return Shipped.NOTHING
            assert self._batch is not None
            if not await self._has_room():
                return Shipped.FULL
            await self._put(self._batch)
            return Shipped.SOME

    async def _put(self, batch: _Batch) -> None:
        way = self._way
        name = BatchName(self.folder.name, batch.end)
        await way.client.put(batch_key(way.run_root, name), batch.value)
        self._room -= 1
        self._position, self._batch = batch.end, None
        way.metrics.shipped.add(batch.events)
        written = self.written
        await way.on_disk(lambda: self._note(batch.end, written))

    async def _take(self, *, due: bool) -> bool:
        """Read the next batch; whether there is one to be sent."""
        while True:
            written = self.written
            read = await self._way.on_disk(partial(self._read, written, due=due))
            if read.torn:
                self._way.metrics.dropped("torn", read.torn)
            self._batch = read.batch
            if read.batch is not None:
                return True
            if read.end == self._position:
                return False
            self._position = read.end

    async def _has_room(self) -> bool:
        if self._room <= 0:
            way = self._way
            ours = await way.client.page(stream_root(way.run_root, self.folder.name), limit=1)
            everybodys = await way.client.page(outbox_root(way.run_root), limit=1)
            room = min(MOST_OF_STREAM - ours.count, MOST_WAITING - everybodys.count)
            self._room = min(room, _WITHOUT_LOOKING)
        return self._room > 0

    async def _resume(self) -> None:
        """Find out where whoever shipped it before had got to: what it noted, or further, if a batch is still there."""
        position = await self._way.on_disk(lambda: usage_stream.shipped(self.folder))
        way, after, last = self._way, "", 0
        root = stream_root(way.run_root, self.folder.name)
        while True:
            page = await way.client.page(root, after=after, limit=_PAGE)
            names = [name for row in page.rows if (name := batch_name(way.run_root, row.key)) is not None]
            last = max([last, *(name.number for name in names)])
            if not page.more or not page.rows:
                break
            after = page.rows[-1].key
        self._position = max(position, min(last, await self._way.on_disk(self._end)))
        self._resumed = True

    # -- in the thread ------------------------------------------------------------------------------------------------

    def _read(self, written: Written | None, *, due: bool) -> _Read:
        most = MOST_EVENTS
        while True:
            piece = usage_stream.read(self.folder, self._position, written, most)
            if not piece.events:
                return _Read(piece.end, piece.torn, None)
            if not (due or piece.whole):
                return _Read(self._position, 0, None)
            value = packed(piece.events)
            if len(value) <= MOST_VALUE or most == 1:
                break
            most //= 2
        batch = _Batch(piece.end, value, len(piece.events), _occurred(piece.events[0]))
        return _Read(piece.end, piece.torn, batch)

    def _note(self, position: int, written: Written | None) -> None:
        with suppress(OSError):  # then a successor ships it again; and deleting may be what a full disk needs
            usage_stream.note_shipped(self.folder, position)
        with suppress(OSError):
            usage_stream.delete_shipped(self.folder, position, written)

    def _end(self) -> int:
        return max((segment.end for segment in usage_stream.segments(self.folder)), default=0)


class _When(msgspec.Struct):
    occurred_at: datetime


def _occurred(event: bytes) -> float:
    try:
        return msgspec.json.decode(event, type=_When).occurred_at.timestamp()
    except (msgspec.MsgspecError, ValueError):
        return 0.0
