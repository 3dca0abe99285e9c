"""What is done about usage events beside recording them: they are shipped to the outbox, synced, and kept within
bounds, and the streams of processes that are gone are taken over (design 9).

Nothing here is waited for by an exchange, and nothing that etcd or the Cloud does ends it. What happens on disk happens
in one thread.
"""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

from aisix_common.clock import Clock
from aisix_common.errors import StoreError
from aisix_common.logs import Logger
from aisix_common.settings.control import Usage
from aisix_common.store.backoff import Backoff
from aisix_common.store.client import EtcdClient
from aisix_common.tasks import TaskOwner

from . import usage_stream
from .stream_shipping import Shipped, StreamShipping, Way
from .usage_bounds import excess
from .usage_journal import UsageJournal
from .usage_metrics import LOSSES, Loss, UsageMetrics
from .usage_stream import Claim, Written

TEND_SECONDS: Final = 1.0
"""How often the journal is looked after and synced."""
SWEEP_SECONDS: Final = 5.0
"""How often it is looked how much there is of all journals."""
TAKEOVER_SECONDS: Final = 10.0
"""How often it is looked for streams of processes that are gone."""
FIRST_RETRY: Final = 1.0
LONGEST_RETRY: Final = 30.0
FLUSH_SECONDS: Final = 3.0
"""What is left in the end has that long to reach the outbox."""
MOST_CLAIMED: Final = 64
"""Streams of others that are shipped at a time; each holds a descriptor."""


@dataclass(frozen=True, slots=True)
class _Orphan:
    claim: Claim
    shipping: StreamShipping


@dataclass(frozen=True, slots=True)
class _Held:
    """What the thread needs to know of one of our streams, as it was on the loop."""

    reached: int
    written: Written | None


class UsageShipping:
    """Of one process. `run` is a background task."""

    def __init__(
        self,
        journal: UsageJournal,
        client: EtcdClient,
        run_root: str,
        usage: Usage,
        metrics: UsageMetrics,
        clock: Clock,
        log: Logger,
    ) -> None:
        """`usage`: the settings the journal was made by."""
        self._journal = journal
        self._usage = usage
        self._metrics = metrics
        self._clock = clock
        self._log = log
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="usage")
        self._way = Way(client, run_root, self._disk, metrics)
        self._folder: Final = journal.folder.parent
        self._own = StreamShipping(self._way, journal.folder, lambda: journal.written)
        self._orphans: list[_Orphan] = []
        self._unclaimed = ""
        """Why a stream that is nobody's could not be had."""
        self._bytes = 0
        self._troubles: set[str] = set()
        self._full: set[str] = set()
        """Streams that wait for the outbox to be emptied."""
        metrics.follow(lambda: self._bytes, self._oldest_seconds)

    async def run(self) -> None:
        """Do all of it until cancelled; then pass on what is there, for FLUSH_SECONDS at most."""
        try:
            async with TaskOwner() as own:
                own.spawn(self._keep_house(), name="usage journal")
                own.spawn(self._take_over(), name="usage of others")
                await self._ship()
        except asyncio.CancelledError:
            await self.flush(FLUSH_SECONDS)
            raise
        finally:
            for orphan in self._orphans:
                orphan.claim.close()
            self._orphans.clear()
            self._disk.shutdown(wait=False, cancel_futures=True)

    async def flush(self, deadline: float) -> None:
        """Pass on what the journal holds, for `deadline` seconds at most. What is left is its successor's. Raises
        nothing but CancelledError."""
        self._journal.tend()
        try:
            async with asyncio.timeout(deadline):
                while await self._own.ship(due=True) is Shipped.SOME:
                    pass
        except (TimeoutError, StoreError, OSError) as error:
            self._log.warning("usage events stay in the journal for the next start", reason=str(error) or "no time")

    # -- shipping -----------------------------------------------------------------------------------------------------

    async def _ship(self) -> None:
        backoff = Backoff(FIRST_RETRY, LONGEST_RETRY)
        while True:
            due = await self._due()
            reached = self._own.reached
            while not await self._pass_on(self._own, due=due):
                if self._own.reached != reached:  # full again, but it was emptied: a long backlog gets on
                    backoff.reset()
                reached = self._own.reached
                await asyncio.sleep(backoff.delay())
                due = True
            backoff.reset()

    async def _due(self) -> bool:
        """Wait for a whole batch (False), or for as long as a smaller one may wait (True)."""
        try:
            async with asyncio.timeout(self._usage.flush_secs):
                await self._journal.full.wait()
        except TimeoutError:
            return True
        self._journal.full.clear()
        return False

    async def _pass_on(self, stream: StreamShipping, *, due: bool) -> bool:
        """Ship what there is; False: some is left, because it was not taken."""
        try:
            while (step := await stream.ship(due=due)) is Shipped.SOME:
                self._over("etcd", "usage events are passed on to etcd again")
        except StoreError as error:
            self._told("etcd", "usage events are not passed on to etcd and wait on disk", reason=str(error))
            return False
        except OSError as error:
            self._told("read", "usage events cannot be read from disk", folder=str(stream.folder), reason=str(error))
            return False
        self._over("read", "usage events can be read from disk again")
        if step is Shipped.FULL:
            self._full.add(stream.folder.name)
            self._told("full", "usage events wait on disk: see why the cloud agent does not deliver those in etcd")
            return False
        self._full.discard(stream.folder.name)
        if not self._full:  # a backlog that gets on is full many times
            self._over("full", "the cloud agent takes usage events again")
            self._troubles.difference_update(LOSSES)
        return True

    async def _take_over(self) -> None:
        while True:
            try:
                self._unclaimed = ""
                self._orphans += await self._way.on_disk(self._claim)
            except OSError as error:
                self._unclaimed = str(error)
            if self._unclaimed:
                self._told("claim", "journals of others cannot be taken over", reason=self._unclaimed)
            else:
                self._over("claim", "journals of others are taken over again")
            for orphan in list(self._orphans):
                if await self._pass_on(orphan.shipping, due=True):
                    await self._finish(orphan)
            await asyncio.sleep(TAKEOVER_SECONDS)

    async def _finish(self, orphan: _Orphan) -> None:
        shipping = orphan.shipping
        try:
            await self._way.on_disk(lambda: usage_stream.remove(shipping.folder, shipping.reached))
        except OSError:
            pass  # whoever comes across it finds it empty
        self._orphans.remove(orphan)
        orphan.claim.close()

    def _claim(self) -> list[_Orphan]:
        """In the thread: the streams that nobody holds, as many as we may take. Raises OSError."""
        found: list[_Orphan] = []
        for folder in usage_stream.streams(self._folder):
            if len(self._orphans) + len(found) >= MOST_CLAIMED:
                break
            try:
                claim = usage_stream.claim(folder) if folder != self._journal.folder else None
            except OSError as error:  # one that is not ours to read keeps us from no other
                self._unclaimed = str(error)
                continue
            if claim is not None:
                found.append(_Orphan(claim, StreamShipping(self._way, folder)))
        return found

    # -- keeping house ------------------------------------------------------------------------------------------------

    async def _keep_house(self) -> None:
        loop = asyncio.get_running_loop()
        swept = float("-inf")
        while True:
            self._journal.tend()
            descriptors = self._journal.unsynced()
            try:
                if descriptors:
                    await self._way.on_disk(partial(_sync, descriptors))
                if loop.time() - swept >= SWEEP_SECONDS:
                    swept = loop.time()
                    await self._sweep()
            except OSError as error:
                self._told(
                    "house", "usage journals cannot be looked after", folder=str(self._folder), reason=str(error)
                )
            else:
                self._over("house", "usage journals are looked after again")
            await asyncio.sleep(TEND_SECONDS)

    async def _sweep(self) -> None:
        held = {shipping.folder.name: _Held(shipping.reached, shipping.written) for shipping in self._shippings()}
        now = self._clock.now().timestamp()
        self._bytes, lost = await self._way.on_disk(lambda: self._clear(held, now))
        for loss, events in lost.items():
            self._metrics.dropped(loss, events)
            if events:
                self._told(
                    loss,
                    "usage events are dropped: more, or older ones, wait than are kept while they are not delivered",
                    reason=loss,
                    settings="managed.usage.max_bytes, managed.usage.max_age_secs",
                )

    def _clear(self, held: dict[str, _Held], now: float) -> tuple[int, dict[Loss, int]]:
        """In the thread: delete what is over the bounds and ours, or nobody's (of the streams of processes that are
        gone only MOST_CLAIMED are ours). Bytes that are left of ours, and events lost."""
        folders = usage_stream.streams(self._folder)
        segments = [segment for folder in folders for segment in usage_stream.segments(folder)]
        keep = {name: one.written.segment if one.written else _NONE for name, one in held.items()}
        bounds, oldest = self._usage, now - self._usage.max_age_secs
        over = sum(segment.size for segment in segments) > bounds.max_bytes or any(s.touched < oldest for s in segments)
        nobodys = {each.name for each in folders if over and each.name not in held and usage_stream.free(each)}
        keep |= dict.fromkeys(nobodys, _NONE)
        lost: dict[Loss, int] = {}
        gone = set()
        for found in excess(segments, keep, oldest=oldest, most_bytes=bounds.max_bytes):
            segment = found.segment
            if segment.stream in held:
                events = usage_stream.events_behind(segment, held[segment.stream].reached)
                segment.path.unlink(missing_ok=True)
                lost[found.loss] = lost.get(found.loss, 0) + events
                gone.add(segment.path)
            elif segment.stream in nobodys:
                lost[found.loss] = lost.get(found.loss, 0) + usage_stream.drop(segment)
        waiting = (
            min(segment.size, segment.end - held[segment.stream].reached)
            for segment in segments
            if segment.stream in held and segment.path not in gone
        )
        return sum(size for size in waiting if size > 0), lost

    # -- telling ------------------------------------------------------------------------------------------------------

    def _shippings(self) -> list[StreamShipping]:
        return [self._own, *(orphan.shipping for orphan in self._orphans)]

    def _oldest_seconds(self) -> float:
        oldest = [shipping.oldest for shipping in self._shippings() if shipping.oldest]
        return max(0.0, self._clock.now().timestamp() - min(oldest)) if oldest else 0.0

    def _told(self, what: str, message: str, **fields: str) -> None:
        if what not in self._troubles:
            self._troubles.add(what)
            self._log.warning(message, **fields)

    def _over(self, what: str, message: str) -> None:
        if what in self._troubles:
            self._troubles.discard(what)
            self._log.info(message)


_NONE: Final = 1 << 63
"""A position that no segment begins at."""


def _sync(descriptors: list[int]) -> None:
    """In the thread: what was written survives the end of the machine, too. Raises OSError."""
    for position, descriptor in enumerate(descriptors):
        try:
            os.fsync(descriptor)
        except OSError:
            for rest in descriptors[position:]:
                os.close(rest)
            raise
        os.close(descriptor)
