"""Writes of resources: each is decided on what was read and committed as one transaction, with history and audit.

    look     the targets, their histories, the turn rows and the canary; the commit compares each it was decided on
    decide   the caller's, on that view; asked again when it changed
    check    names are free, references lead somewhere, nothing that others use goes away (on the index, confirmed)
    commit   compares all it was decided on; a conflict looks again, a bounded number of times
    settle   an answer that was lost is settled by the audit row, whose key is of this attempt alone
    verify   a name that a foreign writer took a moment earlier is given back (see docs/decisions/0004)

Knows rows and edits; what a document means is the caller's.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from aisix_common.clock import Clock
from aisix_common.errors import Problem, StoreDenied, StoreRejected, StoreUnavailable
from aisix_common.resources import BY_NAME, Flaw
from aisix_common.store.types import KeyValue, unchanged

from .audit import Actor, Changed, key_of
from .errors import MOST_USERS, Busy, Conflict, InUse, Invalid, StoreAway
from .facts import Pointed
from .follow import Follower
from .index import Place
from .planning import Edit, Planner, View
from .rows import IN_DOUBT, MOST_TOGETHER, Etcd, Roots, Sent, asking
from .sealing import Sealing
from .transaction import Plan, Shared, Transactions, Wish

_ATTEMPTS: Final = 16
_CATCH_UP: Final = 2.0
"""Seconds to wait for the watch to tell what another admin wrote."""
_VERIFY: Final = 1.0
"""Seconds to wait for the watch to tell of our own write. Without it a name's foreign holder is found later: by the
proxies, which serve the older row and report the other."""
_SETTLE: Final = 5.0
"""Seconds to find out what became of a write whose answer was lost."""
_RETRY_READ: Final = 0.1
"""Seconds between reads that settle a lost answer."""
_RELIST: Final = 5.0
"""Seconds to wait for the watch to notice that etcd went back in time."""
_PAUSE: Final = 0.002
"""Seconds before another attempt, growing with each: other writers are at the same row."""


@dataclass(frozen=True, slots=True)
class Written:
    """What was committed, at which revision. `edits` are those of the attempt that was."""

    edits: tuple[Edit, ...]
    revision: int
    told: tuple[Changed, ...] = ()
    """What the audit says of each edit."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a write is done."""

    actor: Actor
    force: bool = False
    """Also when others refer to what goes away."""
    purge: bool = False
    """Erase the history of the targets instead of adding to it."""


Decide = Callable[[View], Sequence[Edit]]
"""What is to be done, decided on the view. Raises what refuses the request. Called again for every attempt."""


class ResourceStore:
    """The one writer of this process: its writes take turns, so that they do not get into each other's way."""

    def __init__(
        self,
        client: Etcd,
        roots: Roots,
        follower: Follower,
        clock: Clock,
        new_token: Callable[[], str],
        sealing: Sealing,
        *,
        versions: int = 20,
        given: Collection[Pointed] = frozenset(),
        settled: Callable[[str], None] = lambda outcome: None,
    ) -> None:
        """`new_token` makes what tells apart audit rows of one millisecond. What is `given` exists without a row.
        `settled` is told every outcome of an attempt, for the metrics."""
        self._client = client
        self._roots = roots
        self._follower = follower
        self._clock = clock
        self._new_token = new_token
        self._transactions = Transactions(roots, sealing)
        self._given = frozenset(given)
        self._versions = versions
        self._settled = settled
        self._turn = asyncio.Lock()
        self._on_written: Callable[[int], None] = lambda size: None

    def on_written(self, callback: Callable[[int], None]) -> None:
        """Have `callback` told how many bytes of history and audit each write added."""
        self._on_written = callback

    async def write(self, targets: Sequence[Place], decide: Decide, manner: Manner) -> Written:
        """Do what `decide` says with `targets` (all that it edits), or nothing.

        Raises Conflict, InUse, Invalid (a reference leads nowhere), TooLarge, NoKeyring, WrongKeyring, Busy, StoreAway,
        and what `decide` raises.
        """
        async with asking(sent := Sent()), self._turn:
            call = _Call(self, targets, decide, manner, sent)
            written = await call.run()
        self._on_written(call.overhead)
        return written

    async def row_and_history(self, kind: str, id: str) -> tuple[KeyValue | None, KeyValue | None]:
        """A resource and its history row. Raises StoreAway."""
        async with asking():
            keys = (self._roots.resource(kind, id), self._roots.history(kind, id))
            (row, past), _ = await self._client.together(keys)
        return row, past

    async def audit_page(self, after: str, start: str, limit: int) -> Sequence[tuple[str, KeyValue]]:
        """Audit rows with the last segments of their keys, newest first: behind `after`, or from `start` on."""
        prefix = self._roots.audit("")
        async with asking():
            found = await self._client.page(
                prefix, after=prefix + after if after else "", start=prefix + start if start else "", limit=limit
            )
        return [(row.key[len(prefix) :], row) for row in found.rows]

    async def check(self, targets: Sequence[Place], decide: Decide, manner: Manner) -> tuple[Edit, ...]:
        """What `write` would do now, without doing it. Raises what it would raise."""
        async with asking(sent := Sent()):
            return await _Call(self, targets, decide, manner, sent).check()


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one look at etcd showed."""

    view: View
    shared: Shared
    done: Written | None = None
    """What was committed, where a lost attempt turns out to have been."""


class _Call:
    """One write with all its attempts."""

    def __init__(
        self, store: ResourceStore, targets: Sequence[Place], decide: Decide, manner: Manner, sent: Sent
    ) -> None:
        self._client = store._client
        self._roots = store._roots
        self._follower = store._follower
        self._index = store._follower.index
        self._settled = store._settled
        self._transactions = store._transactions
        self._given = store._given
        self._targets = tuple(dict.fromkeys(targets))
        self._decide = decide
        self._manner = manner
        self._sent = sent
        moment = store._clock.now()
        self._segment = key_of(moment, store._new_token())
        self._wish = Wish(manner.actor, moment, "", store._versions, manner.purge, manner.force)
        self._lost: dict[str, tuple[Plan, tuple[Edit, ...]]] = {}
        """Attempts whose answer was lost, by the segment of their audit row."""
        self._seen = 0
        """etcd's revision when it was last looked at."""
        self.overhead = 0
        """Bytes of history and audit that were written."""

    async def run(self) -> Written:
        for attempt in range(_ATTEMPTS):
            seen = await self._look()
            done = seen.done or await self._attempt(attempt, seen)
            if done is not None:
                return done
            await asyncio.sleep(_PAUSE * attempt)
        self._settled("busy")
        if self._sent.lost:
            raise StoreAway(IN_DOUBT)
        raise Busy

    async def _look(self) -> _Seen:
        """The targets, and what writes share."""
        standing = self._index.standing  # before the read: etcd cannot be older then
        resources = [self._roots.resource(*place) for place in self._targets]
        histories = [self._roots.history(*place) for place in self._targets]
        common = [self._roots.turn(), self._roots.turn(external=True), self._roots.canary]
        rows, self._seen = await self._client.together((*resources, *histories, *common))
        # Afterwards: rows that a lost attempt wrote are then never seen without its audit row.
        audits, _ = await self._client.together([self._roots.audit(segment) for segment in self._lost])
        count = len(self._targets)
        view = View(
            dict(zip(self._targets, rows[:count], strict=True)),
            dict(zip(self._targets, rows[count : 2 * count], strict=True)),
        )
        shared = Shared(*rows[2 * count :])
        for audit, (plan, edits) in zip(audits, self._lost.values(), strict=True):
            if audit is not None:
                return _Seen(view, shared, await self._committed(plan, edits, audit.mod_revision))
        if any(self._seen < known for _, known in standing):
            await self._relisted(standing)
        await self._caught_up(shared)
        return _Seen(view, shared)

    async def _relisted(self, standing: Sequence[tuple[int, int]]) -> None:
        """etcd was restored from an older backup: wait until the index is made anew of what is there now."""
        try:
            async with asyncio.timeout(_RELIST):
                await self._follower.until(lambda: self._index.renewed(standing, self._seen))
        except TimeoutError:
            raise StoreAway(
                "etcd went back in time, as after a restore from a backup, and its names are not read anew yet: "
                "send the request again"
            ) from None

    async def _caught_up(self, shared: Shared) -> None:
        """Wait until the index knows every structural write of ours that the turn rows tell of."""
        await self._follower.until(lambda: self._index.listed)
        turns = [
            (external, turn.mod_revision)
            for external, turn in ((False, shared.turn), (True, shared.turn_ext))
            if turn is not None
        ]
        try:
            async with asyncio.timeout(_CATCH_UP):
                for external, revision in turns:
                    await self._follower.until(partial(self._delivered, external, revision))
        except TimeoutError:
            raise StoreAway("etcd answers, but its changes do not arrive: send the request again") from None

    def _delivered(self, external: bool, revision: int) -> bool:
        return self._index.delivered(external=external) >= revision

    async def _attempt(self, attempt: int, seen: _Seen) -> Written | None:
        edits = tuple(self._decide(seen.view))
        if not edits:
            return Written((), self._seen)
        planner, exist = await self._checked(edits, seen.view)
        wish = replace(self._wish, segment=f"{self._segment}.{attempt}")
        plan = self._transactions.plan(planner, seen.shared, exist, wish)
        revision = await self._commit(plan, edits, wish.segment)
        return None if revision is None else await self._committed(plan, edits, revision)

    async def check(self) -> tuple[Edit, ...]:
        """Everything but the commit: the edits that would be made now. Raises as `run` does."""
        seen = await self._look()
        edits = tuple(self._decide(seen.view))
        planner, exist = await self._checked(edits, seen.view)
        if edits:
            self._transactions.plan(planner, seen.shared, exist, self._wish)  # says what stands in its way
        return edits

    async def _checked(self, edits: tuple[Edit, ...], view: View) -> tuple[Planner, list[str]]:
        """What is decided, held against all other rows, and the keys of rows that must go on existing."""
        planner = Planner(edits, view, self._index, self._given)
        await self._require_free(planner)
        exist = await self._require_there(planner)
        await self._require_unused(planner)
        return planner, exist

    async def _require_free(self, planner: Planner) -> None:
        """Raise Conflict when a claimed name is another row's."""
        for edit, name in planner.doubled():
            raise Conflict(edit.kind.name, name, edit.id)
        rivals = list(planner.rivals())
        rows = await self._read([(edit.kind.name, id) for edit, _, id in rivals])
        for edit, name, id in rivals:
            row = rows[edit.kind.name, id]
            if row is not None and self._index.facts(edit.kind.name, row.value).name == name:
                self._settled("name_taken")
                raise Conflict(edit.kind.name, name, edit.id)

    async def _require_there(self, planner: Planner) -> list[str]:
        """The keys of the rows that new references lead to. Raises Invalid for those that lead nowhere."""
        keys: list[str] = []
        missing: list[tuple[Edit, Flaw]] = []
        asked = [(question, planner.stands(question.pointed)) for question in planner.questions()]
        edited = {edit.place for edit in planner.edits}
        unseen = [(one.pointed[0], one.pointed[2]) for one, ids in asked if not ids and one.pointed[1] == "id"]
        # Written by others a moment ago, perhaps.
        rows = await self._read([place for place in unseen if place not in edited])
        for question, ids in asked:
            kind, by, value = question.pointed
            if not ids and by == "id" and rows.get((kind, value)) is not None:
                ids = [value]
            if ids:
                keys.append(self._roots.resource(kind, min(ids)))
            else:
                missing.append((question.edit, Flaw(question.at, f"there is no resource of {kind} with this {by}")))
        if missing:
            raise Dangling(missing)
        return keys

    async def _require_unused(self, planner: Planner) -> None:
        """Raise InUse when others refer to what goes away, unless it is forced."""
        if self._manner.force:
            return
        for _, users in planner.freed():
            # Those that would be named are looked at: others may have deleted them a moment ago.
            looked = await self._read(users[:MOST_USERS])
            there = [place for place in users if looked.get(place, True) is not None]
            if there:
                facts = [(kind, id, self._index.get(kind, id)) for kind, id in there]
                raise InUse([(kind, id, one.called if one else None) for kind, id, one in facts])

    async def _read(self, places: Sequence[Place]) -> Mapping[Place, KeyValue | None]:
        """The rows at `places`, many at once."""
        rows: dict[Place, KeyValue | None] = {}
        wanted = list(dict.fromkeys(places))
        for begin in range(0, len(wanted), MOST_TOGETHER):
            part = wanted[begin : begin + MOST_TOGETHER]
            found, _ = await self._client.together([self._roots.resource(*place) for place in part])
            rows |= dict(zip(part, found, strict=True))
        return rows

    async def _commit(self, plan: Plan, edits: tuple[Edit, ...], segment: str) -> int | None:
        """The revision it was committed at, or None when it was not and has to be decided again."""
        self._sent.in_flight = True  # and stays so when the deadline or the caller ends this here
        try:
            result = await self._client.txn(plan.compare, plan.operations)
        except StoreUnavailable:
            self._sent.lost = True
            self._lost[segment] = (plan, edits)
            self._settled("answer_lost")
            return await self._settle(segment)
        except (StoreDenied, StoreRejected):
            self._sent.in_flight = False
            raise
        self._sent.in_flight = False
        if result.succeeded:
            self._settled("committed")
            return result.revision
        self._settled("conflict")
        return None

    async def _settle(self, segment: str) -> int | None:
        """Whether an attempt whose answer was lost was committed: its audit row tells, and at which revision."""
        try:
            async with asyncio.timeout(_SETTLE):
                while True:
                    try:
                        row = await self._client.get(self._roots.audit(segment))
                        return row.mod_revision if row else None
                    except StoreUnavailable:
                        await asyncio.sleep(_RETRY_READ)
        except TimeoutError as error:
            raise StoreAway(IN_DOUBT) from error

    async def _committed(self, plan: Plan, edits: tuple[Edit, ...], revision: int) -> Written:
        """The index learns of it; names are looked at once more where they were claimed."""
        self._sent.lost = self._sent.in_flight = False
        for (kind, id), facts in plan.facts.items():
            if facts is None:
                self._index.drop(kind, id, revision)
            else:
                self._index.put(kind, id, facts, revision)
        if plan.claims:
            await self._verify(plan, revision)
        self.overhead = plan.overhead
        return Written(edits, revision, plan.told)

    async def _verify(self, plan: Plan, revision: int) -> None:
        """Give a name back that a foreign writer had taken before us, which the index could not know yet.

        Our own writers cannot: they all compare the turn row. Raises Conflict after withdrawing the write.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(_VERIFY):
                for external in {BY_NAME[kind].external for kind, _ in plan.claims}:
                    await self._follower.until(partial(self._delivered, external, revision))
        for (kind, name), id in plan.claims.items():
            for other in self._index.holders(kind, name) - {id}:
                if (kind, other) not in plan.facts and self._index.revision_of(kind, other) < revision:
                    await self._withdraw(plan, revision)
                    self._settled("name_taken")
                    raise Conflict(kind, name, id)

    async def _withdraw(self, plan: Plan, revision: int) -> None:
        """Put everything back as it was, as long as nobody has touched it since: neither what was written nor what was
        deleted."""
        compare = [
            unchanged(self._roots.resource(*place), revision if facts else 0) for place, facts in plan.facts.items()
        ]
        self._sent.in_flight = True
        await self._client.txn(compare, plan.undo)
        self._sent.in_flight = False


class Dangling(Invalid):
    """References that lead nowhere. `found` says in which edit, for whoever knows how the client sent it."""

    def __init__(self, found: Sequence[tuple[Edit, Flaw]]) -> None:
        self.found = tuple(found)
        problems = [Problem(flaw.pointer, flaw.reason) for _, flaw in found]
        super().__init__(f"schema validation failed at {problems[0].path}: {problems[0].reason}", problems)
