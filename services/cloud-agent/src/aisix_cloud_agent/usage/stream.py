"""The delivery of one stream of usage events: batch by batch, in order, each deleted once the Cloud took it.

At least once: a batch whose delete got lost is delivered again, and the Cloud knows its events by `request_id` and
`attempt_index`. No batch is passed over because of trouble with another one: a failure of the link stops the stream
where it is.

A batch that the Cloud refuses for what it carries is cut in two until the events are found that are refused by
themselves. The others are delivered; the row is set aside with those, which are tried again, a minute apart, while the
stream goes on. An event is given up at its third refusal, and one only counts if the Cloud had taken others before: a
Cloud that refuses everybody (a bad release, for some minutes or days) costs nobody an event, also where it comes to its
senses in the middle of a try. Then it is too old at some time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Final

from aisix_common.clock import Clock
from aisix_common.errors import StoreError
from aisix_common.managed.outbox import DamagedBatch, stream_root
from aisix_common.store.backoff import Backoff
from aisix_common.store.client import EtcdClient
from aisix_common.store.types import Delete, Get, KeyValue, unchanged

from ..cloud.link import CloudRefused, CloudUnavailable
from ..flow.gate import Gate, Turn
from ..flow.told import Told
from ..flow.waiting import Time, never
from ..lead.lead import Lead, LeadLost
from .batches import Batch, Event, body, calls, halves, read_batch
from .metrics import Drop, Drops, Ending, OutboxMetrics

TURN: Final = 32
"""Batches of a stream until another one has its turn."""
READ: Final = 4
"""Batches that are read at once: etcd counts all that lie behind each time it is asked."""
REFUSALS: Final = 3
RETRY_SECONDS: Final = 60.0
"""Between two tries of what was refused; after REFUSALS of them doubling, to an hour."""
_LONGEST_RETRY: Final = 3600.0
MOST_ASIDE: Final = 8
"""Batches of a stream that are set aside; then it waits for them."""
_ALONE: Final = 4
"""Events that were refused by themselves while nobody's were taken: looking at the rest one by one tells no more."""
_LOOK_SECONDS: Final = 1.0
_ABOUT: Final = frozenset({400, 409, 413, 422})
"""Refusals of what a call carries. Any other one (401, 403, 404, a redirect) is about who or where we are."""


def about_events(status: int) -> bool:
    """Whether a refusal is about the events."""
    return status in _ABOUT


@dataclass(slots=True)
class Desk:
    """What all streams deliver with."""

    local: EtcdClient
    run_root: str
    lead: Lead
    gate: Gate
    clock: Clock
    time: Time
    chance: Random
    max_age: timedelta
    metrics: OutboxMetrics
    drops: Drops
    deletes: Told
    taken: int = 0
    """Calls that the Cloud took: proof that it does not refuse everybody."""

    async def turn(self) -> Turn:
        """Wait until a call may be made. Raises LeadLost."""
        while True:
            self.lead.require()
            turn = self.gate.turn()
            if turn is not None:
                return turn
            await self.time.wait(never(), _LOOK_SECONDS)

    async def take(self, events: Sequence[Event]) -> bool:
        """One call; False: the Cloud refuses what it carries. Raises CloudUnavailable, LeadLost."""
        turn = await self.turn()
        try:
            with self.gate.calling(turn) as session:
                await session.telemetry(body(events))
        except CloudRefused:
            self.metrics.batches["refused"].add()
            return False
        except CloudUnavailable:
            self.metrics.batches["failed"].add()
            raise
        self.taken += 1
        self.metrics.took(len(events), self.clock.now())
        return True

    async def delete(self, key: str, revision: int) -> bool:
        """Delete a row as it was read; False: it is another one now, or gone. Raises StoreError, LeadLost."""
        fence = self.lead.fence(self.run_root)
        try:
            result = await self.local.txn([fence, unchanged(key, revision)], [Delete(key)], [Get(fence.key)])
        except StoreError as error:
            self.deletes.began(str(error))
            raise
        self.deletes.ended()
        if result.succeeded:
            return True
        if [row.mod_revision for row in result.reads[0]] != [fence.number]:
            raise LeadLost("another agent leads")
        return False

    def aged(self, events: Sequence[Event]) -> bool:
        """Whether all of them are too old to be kept for later."""
        now = self.clock.now()
        return all(event.older(self.max_age, now) for event in events)


@dataclass(slots=True)
class _Aside:
    """A row whose other events the Cloud took."""

    key: str
    revision: int
    taken: int
    """`Desk.taken` before it was tried first."""
    due: float
    refusals: dict[int, int] = field(default_factory=dict)
    """How often each event that is left was refused by itself; 0: only together with others."""
    tries: int = 1
    dropped: dict[Drop, list[str]] = field(default_factory=dict)
    """Request ids of those that were given up."""


class UsageStream:
    """One stream, while it has batches."""

    def __init__(self, name: str, desk: Desk) -> None:
        self._desk = desk
        self._root = stream_root(desk.run_root, name)
        self._aside: list[_Aside] = []
        self._backoff = Backoff(1.0, 60.0, desk.chance)
        self._rest_until = 0.0

    @property
    def aside(self) -> int:
        """Batches that are set aside."""
        return len(self._aside)

    def ready(self) -> bool:
        """Whether a turn could do anything."""
        now = self._desk.time.monotonic()
        room = len(self._aside) < MOST_ASIDE or any(aside.due <= now for aside in self._aside)
        return room and now >= self._rest_until

    async def turn(self) -> bool:
        """Deliver some batches; whether there may be more that can be. Raises LeadLost."""
        try:
            for aside in [each for each in self._aside if each.due <= self._desk.time.monotonic()]:
                await self._again(aside)
            for _ in range(TURN // READ):
                # What lies before the last one set aside is set aside, too, or delivered.
                after = max((aside.key for aside in self._aside), default="")
                page = await self._desk.local.page(self._root, after=after, limit=READ)
                for row in page.rows:
                    if not self.ready() or len(self._aside) >= MOST_ASIDE:
                        return False
                    await self._deliver(row)
                if not page.more:
                    return False
        except (CloudUnavailable, StoreError):
            pass  # told by the gate, by `Desk.delete`, or by whoever looks for streams
        else:
            return True
        self._rest()
        return False

    async def _deliver(self, row: KeyValue) -> None:
        try:
            batch = read_batch(row.value)
        except DamagedBatch:
            if await self._desk.delete(row.key, row.mod_revision):
                self._desk.metrics.batches["damaged"].add()
                self._desk.drops.add("damaged", (), 1)
            return
        taken = self._desk.taken
        if not self._desk.gate.open and self._desk.aged(batch.events):
            await self._ended(row, batch, {"expired": [event.request_id for event in batch.events]})
            return
        try:
            alone, unsorted = await self._sift(batch.events, taken)
        except CloudUnavailable:
            if self._desk.aged(batch.events):
                await self._ended(row, batch, {"expired": [event.request_id for event in batch.events]})
            raise
        if not alone:
            await self._ended(row, batch, {})
            self._backoff.reset()
            return
        refusals = {event.index: 1 for event in alone} | {event.index: 0 for event in unsorted}
        due = self._desk.time.monotonic() + RETRY_SECONDS
        self._aside.append(_Aside(row.key, row.mod_revision, taken, due, refusals))
        if self._desk.taken == taken:
            self._rest()  # nobody's events are taken: no need to hurry through the rest

    async def _again(self, aside: _Aside) -> None:
        """Try what was refused once more."""
        row = await self._desk.local.get(aside.key)
        if row is None or row.mod_revision != aside.revision:
            self._aside.remove(aside)
            return
        batch = read_batch(row.value)
        left = [event for event in batch.events if event.index in aside.refusals]
        proven = self._desk.taken > aside.taken
        alone, unsorted = await self._sift(left, aside.taken)
        for event in alone if proven else ():
            aside.refusals[event.index] += 1
        aside.refusals = {event.index: aside.refusals[event.index] for event in (*alone, *unsorted)}
        for event in (*alone, *unsorted):
            reason = self._given_up(event, aside.refusals[event.index])
            if reason is not None:
                del aside.refusals[event.index]
                aside.dropped.setdefault(reason, []).append(event.request_id)
        aside.tries += 1
        doublings = min(max(aside.tries - REFUSALS + 1, 0), 10)
        aside.due = self._desk.time.monotonic() + min(RETRY_SECONDS * 2**doublings, _LONGEST_RETRY)
        if not aside.refusals:
            await self._ended(row, batch, aside.dropped)
            self._aside.remove(aside)

    def _given_up(self, event: Event, refusals: int) -> Drop | None:
        if refusals >= REFUSALS:
            return "refused"
        return "expired" if self._desk.aged([event]) else None

    async def _sift(self, events: Sequence[Event], taken: int) -> tuple[list[Event], list[Event]]:
        """Deliver all that the Cloud takes. Returns what it refuses by itself; and what was not looked at any closer,
        as the Cloud took nothing from anybody since it had taken `taken` calls."""
        waiting = list(reversed(calls(events)))
        alone: list[Event] = []
        while waiting:
            part = waiting.pop()
            if await self._desk.take(part):
                continue
            if len(part) > 1:
                waiting.extend(reversed(halves(part)))
                continue
            alone.extend(part)
            if len(alone) >= _ALONE and self._desk.taken == taken:
                break
        return alone, [event for part in reversed(waiting) for event in part]

    async def _ended(self, row: KeyValue, batch: Batch, dropped: dict[Drop, list[str]]) -> None:
        """All events of a row are delivered or given up: delete it, and count."""
        if not await self._desk.delete(row.key, row.mod_revision):
            return  # written anew meanwhile: it comes again
        for reason, request_ids in dropped.items():
            self._desk.drops.add(reason, request_ids, len(request_ids))
        if batch.broken:
            self._desk.drops.add("damaged", (), batch.broken)
        ending: Ending = "incomplete" if dropped or batch.broken else "delivered"
        self._desk.metrics.batches[ending].add()

    def _rest(self) -> None:
        self._rest_until = self._desk.time.monotonic() + self._backoff.delay()
