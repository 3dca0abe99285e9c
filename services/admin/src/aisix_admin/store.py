"""Resources in etcd: linearizable reads, and writes that are decided and committed as one.

A write is a transaction that compares what it was decided on: that the row is unchanged, and for a new name that
nothing of its kind is newer than the index it was looked up in (foreign writers count too). A conflict decides again, a
bounded number of times. An answer lost on the way is settled by reading back. An etcd that was restored from an older
backup is noticed by its revision: names are not claimed before the index was made anew. Knows rows and bytes, no
documents.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from aisix_common.errors import StoreDenied, StoreRejected, StoreUnavailable
from aisix_common.store.types import (
    Compare,
    Delete,
    KeyValue,
    Operation,
    Put,
    RangeResult,
    TransactionResult,
    nothing_newer,
    unchanged,
)

from .errors import Busy, Conflict, OutcomeUnknown, StoreAway, TooLarge, Unknown
from .follow import Follower

DEADLINE: Final = 20.0
"""Seconds one call may take with all its attempts; a single request of the etcd client has a shorter one of its own."""

LONGEST_REQUEST: Final = DEADLINE / 4
"""Seconds a single request to etcd may be given here. An attempt reads, perhaps reads who holds a name, writes, and
reads back when the answer was lost: with more time for each the call would end before it knew what happened."""

VALUE_LIMIT: Final = 1024 * 1024
"""Bytes of one stored document: etcd takes 1.5 MiB a transaction, and history will share it."""

_Done = TypeVar("_Done")

_ATTEMPTS: Final = 16
_CATCH_UP: Final = 1.0
"""Seconds to wait for the watch after a conflict, before trying again all the same."""
_SETTLE: Final = 5.0
"""Seconds to find out what became of a write whose answer was lost."""
_RETRY_READ: Final = 0.1
"""Seconds between reads that settle a lost answer."""
_RELIST: Final = 5.0
"""Seconds to wait for the watch to notice that etcd went back in time."""

_IN_DOUBT: Final = (
    "etcd went away while it was asked to write: the write may or may not have happened; "
    "read the resource once etcd is back"
)


class Etcd(Protocol):
    """The part of the etcd client that is used here."""

    async def get(self, key: str) -> KeyValue | None: ...

    async def range(self, prefix: str, *, limit: int = 0, revision: int = 0) -> RangeResult: ...

    async def txn(
        self, compare: Sequence[Compare], success: Sequence[Operation], failure: Sequence[Operation] = ()
    ) -> TransactionResult: ...


@dataclass(frozen=True, slots=True)
class Roots:
    """Key prefixes without trailing slash: where resources lie, and where the services keep their own state."""

    resources: str
    run: str


@dataclass(frozen=True, slots=True)
class Row:
    """A stored resource: its bytes, and etcd's mod_revision."""

    id: str
    value: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to be stored, and the name it claims within its kind."""

    value: bytes
    name: str


@dataclass(frozen=True, slots=True)
class _Step:
    """One attempt: the row as it was read (None: it must not exist), what to do, what must still hold of the kind."""

    key: str
    before: KeyValue | None
    operation: Put | Delete
    guard: tuple[Compare, ...] = ()

    @property
    def compare(self) -> tuple[Compare, ...]:
        return (unchanged(self.key, self.before.mod_revision if self.before else 0), *self.guard)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What an attempt read, and at which revision; how far the index was before that, and how often it was listed."""

    row: KeyValue | None
    revision: int
    complete_to: int
    listings: int


@dataclass(slots=True)
class _Sent:
    """What one call has sent to be written so far."""

    in_flight: bool = False
    lost: bool = False
    """The answer to an attempt never came: it may take effect as late as it likes."""

    @property
    def doubtful(self) -> bool:
        """Whether something may have been written that we know nothing of."""
        return self.in_flight or self.lost


class ResourceStore:
    """All kinds under one resource root. `settled` is told what became of every attempted write."""

    def __init__(
        self, client: Etcd, roots: Roots, follower: Follower, settled: Callable[[str], None] = lambda outcome: None
    ) -> None:
        self._client = client
        self._root = roots.resources
        self._run_root = roots.run
        self._follower = follower
        self._settled = settled
        # Our own writers of one kind take turns: only foreign ones can make an attempt fail.
        self._turns = {kind: asyncio.Lock() for kind in follower.index.kinds}

    async def list(self, kind: str) -> tuple[Row, ...]:
        """All rows of a kind, in key order. Raises StoreAway."""
        prefix = self._key(kind, "")
        async with _asking():
            found = await self._client.range(prefix)
        return tuple(Row(row.key[len(prefix) :], row.value, row.mod_revision) for row in found.rows)

    async def get(self, kind: str, id: str) -> Row:
        """One row. Raises Unknown, StoreAway."""
        async with _asking():
            row = await self._client.get(self._key(kind, id))
        if row is None:
            raise Unknown
        return Row(id, row.value, row.mod_revision)

    async def run_rows(self, folder: str) -> tuple[bytes, ...]:
        """The values of all rows of one folder of the services' own state. Raises StoreAway."""
        async with _asking():
            found = await self._client.range(f"{self._run_root}/{folder}/")
        return tuple(row.value for row in found.rows)

    async def create(self, kind: str, id: str, draft: Draft) -> Row:
        """Store a new row under an id that was made for it. Raises Conflict, TooLarge, Busy, StoreAway."""
        key, sent = self._key(kind, id), _Sent()

        async def attempt() -> Row | None:
            # Asked first so that nothing is sent, and nothing left in doubt, while etcd is away.
            seen = await self._look(kind, key)
            if seen.row is not None:  # the id was made for this row: an earlier attempt was committed, its answer lost
                return Row(id, seen.row.value, seen.row.mod_revision)
            guard = await self._claim(kind, id, draft.name, seen)
            revision = await self._commit(_Step(key, None, Put(key, draft.value), guard), sent)
            return None if revision is None else Row(id, draft.value, revision)

        _measure(draft)
        async with _asking(sent), self._turns[kind]:
            row = await self._until_done(kind, attempt, sent)
            self._remember(kind, row, draft.name, claimed=True)
        return row

    async def replace(self, kind: str, id: str, decide: Callable[[Row], Draft]) -> Row:
        """Replace a row by what `decide` makes of the current one; it is asked again when the row changed meanwhile.

        Raises Unknown, Conflict, TooLarge, Busy, OutcomeUnknown, StoreAway, and whatever `decide` raises.
        """
        key, sent = self._key(kind, id), _Sent()
        last: tuple[str, bool] = ("", False)

        async def attempt() -> Row | None:
            nonlocal last
            seen = await self._look(kind, key)
            before = seen.row
            if before is None:
                raise Unknown
            draft = decide(Row(id, before.value, before.mod_revision))
            _measure(draft)
            renamed = draft.name != self._follower.index.name_of(kind, before.value)
            guard = await self._claim(kind, id, draft.name, seen) if renamed else ()
            revision = await self._commit(_Step(key, before, Put(key, draft.value), guard), sent)
            last = (draft.name, renamed)
            return None if revision is None else Row(id, draft.value, revision)

        async with _asking(sent), self._turns[kind]:
            row = await self._until_done(kind, attempt, sent)
            self._remember(kind, row, last[0], claimed=last[1])
        return row

    async def delete(self, kind: str, id: str) -> None:
        """Delete a row. Raises Unknown, Busy, StoreAway."""
        key, sent = self._key(kind, id), _Sent()

        async def attempt() -> int | None:
            seen = await self._look(kind, key)
            if seen.row is not None:
                return await self._commit(_Step(key, seen.row, Delete(key)), sent)
            if sent.lost:  # an attempt whose answer was lost took effect after we had looked
                return seen.revision
            raise Unknown

        async with _asking(sent), self._turns[kind]:
            revision = await self._until_done(kind, attempt, sent)
            self._follower.index.of(kind).delete(id, revision)

    def _key(self, kind: str, id: str) -> str:
        return f"{self._root}/{kind}/{id}"

    async def _look(self, kind: str, key: str) -> _Seen:
        """The row of `key`, read so that etcd's present revision comes with it."""
        index = self._follower.index
        complete_to, listings = index.of(kind).complete_to, index.listings
        found = await self._client.range(key, limit=1)  # of all keys that begin like this one, it is the first
        row = next((row for row in found.rows if row.key == key), None)
        return _Seen(row, found.revision, complete_to, listings)

    async def _until_done(self, kind: str, attempt: Callable[[], Awaitable[_Done | None]], sent: _Sent) -> _Done:
        for _ in range(_ATTEMPTS):
            decided_at = self._follower.index.of(kind).complete_to
            done = await attempt()
            if done is not None:
                return done
            await self._catch_up(kind, decided_at)
        self._settled("busy")
        if sent.lost:
            raise StoreAway(_IN_DOUBT)
        raise Busy

    async def _catch_up(self, kind: str, revision: int) -> None:
        """Something of this kind was written after `revision`: wait for the watch to tell, for a while."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CATCH_UP):
                await self._follower.until(lambda: self._follower.index.of(kind).complete_to > revision)

    async def _claim(self, kind: str, id: str, name: str, seen: _Seen) -> tuple[Compare, ...]:
        """What must hold for `name` to be free for `id` at the moment of writing. Raises Conflict when it is not."""
        index = self._follower.index
        await self._follower.until(lambda: index.listed)
        if seen.revision < seen.complete_to:
            await self._listed_anew(seen.listings)
        names = index.of(kind)
        revision, holders = names.complete_to, names.holders(name) - {id}
        for holder in sorted(holders):
            row = await self._client.get(self._key(kind, holder))
            if row is not None and self._follower.index.name_of(kind, row.value) == name:
                self._settled("name_taken")
                raise Conflict(name)
        return (nothing_newer(self._key(kind, ""), revision),)

    async def _listed_anew(self, listings: int) -> None:
        """etcd's revision is lower than the index's: it was restored, and "nothing newer" would hold of anything."""
        try:
            async with asyncio.timeout(_RELIST):
                await self._follower.until(lambda: self._follower.index.listings != listings)
        except TimeoutError:
            raise StoreAway(
                "etcd went back in time, as after a restore from a backup, and its names are not read anew yet: "
                "send the request again"
            ) from None

    async def _commit(self, step: _Step, sent: _Sent) -> int | None:
        """The revision the step was committed at, or None when it was not and has to be decided again."""
        sent.in_flight = True  # and stays so when the deadline or the caller ends this here
        try:
            result = await self._client.txn(step.compare, (step.operation,))
        except StoreUnavailable:
            sent.lost = True
            self._settled("answer_lost")
            return await self._settle(step)
        except (StoreDenied, StoreRejected):
            sent.in_flight = False
            raise
        sent.in_flight = False
        if result.succeeded:
            self._settled("committed")
            return result.revision
        self._settled("conflict")
        return None

    async def _settle(self, step: _Step) -> int | None:
        """Find out by reading whether a step whose answer was lost was committed: its revision, or None."""
        try:
            async with asyncio.timeout(_SETTLE):
                row = await self._read_back(step.key)
        except (StoreUnavailable, TimeoutError) as error:
            raise StoreAway(_IN_DOUBT) from error
        before = step.before
        if before is None:
            return row.mod_revision if row else None
        if isinstance(step.operation, Delete):
            # Another create_revision: deleted, and made anew by somebody since.
            gone = row is None or row.create_revision != before.create_revision
            return before.mod_revision + 1 if gone else None
        if row is None or row.mod_revision == before.mod_revision:
            return None
        if row.create_revision == before.create_revision and row.version == before.version + 1:
            return row.mod_revision if row.value == step.operation.value else None
        raise OutcomeUnknown

    async def _read_back(self, key: str) -> KeyValue | None:
        """Read until etcd answers; the caller's deadline ends it."""
        while True:
            try:
                return await self._client.get(key)
            except StoreUnavailable:
                await asyncio.sleep(_RETRY_READ)

    def _remember(self, kind: str, row: Row, name: str, *, claimed: bool) -> None:
        names = self._follower.index.of(kind)
        names.put(row.id, name, row.revision)
        if claimed:
            # The transaction proved that nothing of this kind was written between the index and this row.
            names.complete_to = max(names.complete_to, row.revision)


def _measure(draft: Draft) -> None:
    if len(draft.value) > VALUE_LIMIT:
        raise TooLarge(f"the document is over {VALUE_LIMIT} bytes when stored: etcd would not take it")


@asynccontextmanager
async def _asking(sent: _Sent | None = None) -> AsyncIterator[None]:
    """Bound what happens inside by DEADLINE and say etcd's troubles in words for operators.

    `sent` is what is noted of writes inside: where one is in doubt, that is what has to be said.
    """
    try:
        async with asyncio.timeout(DEADLINE):
            yield
    except (StoreUnavailable, TimeoutError) as error:
        if sent is not None and sent.doubtful:
            raise StoreAway(_IN_DOUBT) from error
        raise StoreAway(
            "etcd cannot be reached or has no leader: check that it runs and that `etcd.endpoints` and `etcd.tls` "
            "are right; the log of this service names the cause"
        ) from error
    except StoreDenied as error:
        raise StoreAway("etcd refused us: check `etcd.user`, its password and its roles") from error
    except StoreRejected as error:
        raise StoreAway(
            "etcd refused the request: check its alarms and its space quota with "
            "`etcdctl alarm list` and `etcdctl endpoint status`"
        ) from error
