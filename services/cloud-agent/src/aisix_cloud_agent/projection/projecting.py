"""One session with the Cloud, projected: follow its roots, plan what comes, have it written, hold what is suspicious.

A change is projected as soon as it is there. What failed is planned anew from what stands in the local etcd then, so
that neither a lost answer nor a crash needs to be known of. Deletes that a watch brings are done even while a list is
held, cannot be had, or finds no room in the local etcd: a revocation is never late.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass

from aisix_common.errors import StoreError, StoreRejected
from aisix_common.secrets.envelope import Keyring
from aisix_common.store.backoff import Backoff
from aisix_common.store.types import Alive, Changes, Deleted, Listing, Lost
from aisix_common.store.watch import list_and_watch

from ..cloud.link import Link, Session
from .cloud_rows import TUNING, CloudAway, CloudDenies, Event, Inbox, batches, in_the_cloud, whole
from .layout import Layout, Spot
from .local_rows import AT_ONCE, Conflict, Ground, LocalRows
from .metrics import ProjectionMetrics
from .planning import ForeignEnvironment, Listed, Plan, Rules, foreign_environment, local_keys, plan_changes
from .shrink import ShrinkGuard, Suspicious


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Times in seconds."""

    confirm: float = 5.0
    """Until a suspicious list is read a second time."""
    foreign: float = 30.0
    """Until local rows that are not ours are looked at again."""
    refused: float = 30.0
    """Until what the local etcd refused, as it is full, is tried again."""
    look: float = 5.0
    """How often it is looked, while nothing changes, whether what was projected still stands, and the keyring."""
    first_delay: float = 0.1
    longest_delay: float = 5.0


@dataclass(frozen=True, slots=True)
class Terms:
    """What a projection is done by, whatever the session."""

    layout: Layout
    keyring: Callable[[], Keyring]
    """The same object as long as its keys are the same."""
    guard: ShrinkGuard
    takeover: bool
    allow_plaintext: bool
    pace: Pace

    def rules(self, ground: Ground) -> Rules:
        """For the planner."""
        return Rules(
            self.layout, ground.keyring, self.allow_plaintext, self.guard, self.takeover, cannot_seal=ground.cannot_seal
        )


class Following:
    """The projection of one session's rows. Used by one task, but for `watch`."""

    def __init__(
        self, session: Session, link: Link, terms: Terms, local: LocalRows, metrics: ProjectionMetrics
    ) -> None:
        self._session = session
        self._link = link
        self._terms = terms
        self._local = local
        self._metrics = metrics
        self._now = asyncio.get_running_loop().time
        self.inbox = Inbox(len(terms.layout.cloud_prefixes), self._now)
        """Closed when the session is to be followed no more."""
        self._ground: Ground | None = None
        """What stands there, as far as we know; None: to be read."""
        self._contained = 0
        """Revision of the Cloud up to which everything was planned from a list."""
        self._newest = 0
        """The last one that was projected."""
        self._rows = 0
        self._planned_with: Keyring | None = None
        """The keyring of the last whole plan."""
        self._ours = False
        """Whether the local rows were found to be ours, or nobody's: else none is deleted."""

    async def watch(self, root: int) -> None:
        """Bring what happens under a root into the inbox, until cancelled."""
        prefix = self._terms.layout.cloud_prefixes[root]
        try:
            async with aclosing(list_and_watch(self._session.etcd, prefix, TUNING)) as events:
                await self._bring(events, root)
        finally:
            self.inbox.close()

    async def _bring(self, events: AsyncGenerator[Listing | Changes | Lost | Alive, None], root: int) -> None:
        async for event in events:
            if isinstance(event, Lost):
                self._metrics.lost(root, in_the_cloud(event.reason))
                continue
            self._metrics.heard(root)
            if not isinstance(event, Alive):
                await self.inbox.put(root, event)
            del event  # a list must not lie here until the next event

    async def run(self) -> None:
        """Project until the inbox is closed. Raises LeadLost."""
        look_at = self._now() + self._terms.pace.look
        while not self.inbox.closed:
            taken = await self.inbox.take(max(0.0, look_at - self._now()))
            if taken.listings or taken.events:
                self._metrics.waiting(taken.since)
            if taken.listings:
                await self._whole(taken.listings)
            for changes in batches(taken.events):
                await self._change(changes)
            self._metrics.waiting(None)
            if self._now() >= look_at:
                await self._look()
                look_at = self._now() + self._terms.pace.look

    async def _look(self) -> None:
        """Whether what was projected stands there still: the local etcd may have been restored or replaced. And whether
        there is another keyring, or the one we have is right by now."""
        if self._planned_with is None:
            return
        known = self._ground
        try:
            ground = await self._read_ground()
        except StoreError as error:
            self._metrics.local_trouble(str(error))
            return
        self._metrics.local_trouble("")
        rekeyed = ground.keyring is not self._planned_with or (known is not None and known.cannot_seal)
        if known is None or ground.standing != known.standing or (rekeyed and not ground.cannot_seal):
            await self._whole({})

    async def _change(self, changes: Changes) -> None:
        """Project changes, whatever it takes."""
        events = [event for event in changes.events if event.mod_revision > self._contained]
        if events:
            await self._until_done(lambda: self._try_change(Changes(events, changes.revision)))

    async def _try_change(self, changes: Changes) -> bool:
        ground = self._ground
        if ground is None or ground.keyring is not self._terms.keyring():
            ground = await self._read_ground()
        layout, rules = self._terms.layout, self._terms.rules(ground)
        local = await self._local.rows(local_keys(changes, layout))
        if len(changes.events) <= AT_ONCE:
            plan = plan_changes(changes, local, ground.standing, rules)
        else:
            plan = await asyncio.to_thread(plan_changes, changes, local, ground.standing, rules)
        if not isinstance(plan, Plan):
            await self._whole({})
            return True
        try:
            await self._commit(plan, ground)
        except StoreRejected as error:
            self._metrics.local_trouble(str(error))
            await self._revoke(changes.events)
            await self._whole({})
            return True
        self._metrics.refused_among((event.key for event in changes.events), plan.refused)
        self._projected(changes.revision, self._rows + plan.grows, plan)
        return True

    async def _whole(self, listings: dict[int, Listing]) -> None:
        """Project everything, whatever it takes. `listings`: those that the watches have brought; emptied."""
        confirmed: list[Suspicious] = []
        pace = self._terms.pace

        async def once() -> bool:
            try:
                outcome = await self._try_whole(listings, confirmed[-1].digest if confirmed else "")
            except StoreRejected as error:
                self._metrics.local_trouble(str(error))
                await self._pause(pace.refused)
                return False
            if isinstance(outcome, Suspicious):
                self._metrics.alarm("shrink", outcome.message)
                confirmed.append(outcome)
                await self._hold(pace.confirm)
            elif isinstance(outcome, ForeignEnvironment):
                self._metrics.alarm("environment", outcome.message)
                confirmed.clear()
                await self._hold(pace.foreign)
            return outcome is None

        await self._until_done(once, self._pause)
        if confirmed and confirmed[-1].older:
            self.inbox.close()  # the Cloud went back: what its watches have brought may be of what is no more

    async def _try_whole(self, listings: dict[int, Listing], confirmed: str) -> Suspicious | ForeignEnvironment | None:
        self._ours = False
        ground = await self._read_ground()
        layout, rules = self._terms.layout, self._terms.rules(ground)
        foreign = await self._foreign(ground, rules)
        if foreign is not None:
            listings.clear()
            return foreign
        self._ours = True
        self._metrics.alarm("environment", "")
        cloud = await whole(self._session.etcd, layout.cloud_prefixes, listings, self._newest, self.inbox)
        self._link.worked_well(self._session)
        self._metrics.heard(0)
        revision = cloud.revision
        listed = await asyncio.to_thread(Listed, cloud, ground.standing, rules)
        del cloud  # what needs no writing is let go of while the local rows are read
        async with aclosing(self._local.pages()) as pages:
            async for rows in pages:
                await asyncio.to_thread(listed.local, rows)
        plan = await asyncio.to_thread(listed.plan, confirmed)
        if not isinstance(plan, Plan):
            self._ours = isinstance(plan, Suspicious)
            return plan
        before = listed.rows
        del listed
        self._metrics.alarm("shrink", "")
        await self._commit(plan, ground)
        self._contained = revision
        self._planned_with = ground.keyring
        self._metrics.refused_of_all(plan.refused)
        self._projected(revision, before + plan.grows, plan)
        return None

    async def _foreign(self, ground: Ground, rules: Rules) -> ForeignEnvironment | None:
        """Whether the local rows are somebody else's: found out without asking the Cloud for anything."""
        if foreign_environment(ground.standing, 1, rules) is None:
            return None
        count = 0
        async with aclosing(self._local.pages()) as pages:
            async for rows in pages:
                count += sum(self._terms.layout.is_ours(row.key) for row in rows)
        return foreign_environment(ground.standing, count, rules)

    async def _hold(self, seconds: float) -> None:
        """Wait before everything is read again. What the watches bring meanwhile is in that, but what they delete is
        deleted at once, unless the local rows are not ours."""
        until = self._now() + seconds
        while not self.inbox.closed and (left := until - self._now()) > 0:
            taken = await self.inbox.take(left)
            if self._ours:
                await self._revoke(taken.events)

    async def _pause(self, seconds: float) -> None:
        """The same after a failure. Where it is not known whose the local rows are, what comes waits."""
        await (self._hold(seconds) if self._ours else asyncio.sleep(seconds))

    async def _revoke(self, events: Iterable[Event]) -> None:
        """Delete at once what these delete, beside any plan: the only thing that an etcd which is full takes."""
        last = {event.key: event for event in events}
        spots = (self._terms.layout.spot(key) for key, event in last.items() if isinstance(event, Deleted))
        keys = [spot.key for spot in spots if isinstance(spot, Spot)]

        async def once() -> bool:
            await self._local.remove(keys)
            return True

        if keys:
            await self._until_done(once)

    async def _until_done(
        self, once: Callable[[], Awaitable[bool]], pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        """Try until it is done, or the inbox is closed. Raises LeadLost."""
        pace = self._terms.pace
        backoff = Backoff(pace.first_delay, pace.longest_delay)
        while not self.inbox.closed:
            try:
                if await once():
                    return
                backoff.reset()
                continue
            except CloudAway as error:
                if not self.inbox.closed:
                    self._metrics.lost(0, str(error))
                if isinstance(error, CloudDenies):
                    self.inbox.close()
            except StoreError as error:
                self._metrics.local_trouble(str(error))
            except Conflict:
                pass
            self._ground = None
            await pause(backoff.delay())

    async def _read_ground(self) -> Ground:
        ground = await self._local.ground(self._terms.keyring())
        self._metrics.alarm("keyring", ground.cannot_seal)
        return ground

    async def _commit(self, plan: Plan, ground: Ground) -> None:
        self._ground = None  # until it is known what stands there
        self._ground = await self._local.commit(plan, ground)
        self._metrics.local_trouble("")

    def _projected(self, revision: int, rows: int, plan: Plan) -> None:
        self._newest, self._rows = revision, rows
        self._metrics.projected(revision, rows, changed=bool(plan.puts or plan.deletes))
