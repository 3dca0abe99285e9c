"""Reading resources: linearizable from etcd, and what reading has in common with reading from a file.

Knows rows and bytes, no documents.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, Protocol

from aisix_common.errors import Compacted, StoreDenied, StoreRejected, StoreUnavailable
from aisix_common.resources import EXTERNAL_KINDS
from aisix_common.secrets.canary import canary_key
from aisix_common.store.types import (
    Compare,
    KeyValue,
    Operation,
    RangeResult,
    TransactionResult,
)

from .errors import StoreAway, Unknown

DEADLINE: Final = 20.0
"""Seconds one call may take with all its attempts; a single request of the etcd client has a shorter one of its own."""

LONGEST_REQUEST: Final = DEADLINE / 4
"""Seconds a single request to etcd may be given here. An attempt reads, writes, and reads back when the answer was
lost: with more time for each the call would end before it knew what happened."""

MOST_TOGETHER: Final = 100
"""Rows that are asked for at once, and operations of one transaction: etcd takes 128."""

_PAGE: Final = 1000
"""Rows of one read of a whole kind."""
_TRIES: Final = 3

_EXTERNAL: Final = frozenset(kind.name for kind in EXTERNAL_KINDS)

IN_DOUBT: Final = (
    "etcd went away while it was asked to write: the write may or may not have happened; "
    "read the resource once etcd is back"
)


class Etcd(Protocol):
    """The part of the etcd client that is used here."""

    async def get(self, key: str) -> KeyValue | None: ...

    async def range(self, prefix: str, *, limit: int = 0, revision: int = 0) -> RangeResult: ...

    async def page(
        self, prefix: str, *, after: str = "", limit: int, start: str = "", revision: int = 0
    ) -> RangeResult: ...

    async def together(self, keys: Sequence[str]) -> tuple[tuple[KeyValue | None, ...], int]: ...

    async def txn(
        self, compare: Sequence[Compare], success: Sequence[Operation], failure: Sequence[Operation] = ()
    ) -> TransactionResult: ...


@dataclass(frozen=True, slots=True)
class Roots:
    """Key prefixes without trailing slash (design 5): where resources lie, where the services keep their own state,
    and where the kinds lie that other gateways on the same etcd do not know."""

    resources: str
    run: str
    ext: str

    def resource(self, kind: str, id: str) -> str:
        """The key of a resource."""
        return f"{self.ext if kind in _EXTERNAL else self.resources}/{kind}/{id}"

    def turn(self, *, external: bool = False) -> str:
        """The key of the row over which structural writes take turns. Each root has its own, written together with a
        row under that root: whoever follows the root then knows when it has caught up with the turn."""
        return f"{self.run}/turn-ext" if external else f"{self.run}/turn"

    @property
    def canary(self) -> str:
        """The key of the row that tells which keyring the stored secrets are sealed with."""
        return canary_key(self.run)

    def history(self, kind: str, id: str) -> str:
        """The key of a resource's versions."""
        return f"{self.run}/history/{kind}/{id}"

    def audit(self, segment: str) -> str:
        """The key of one audit row; of all of them with an empty segment."""
        return f"{self.run}/audit/{segment}"


@dataclass(frozen=True, slots=True)
class Row:
    """A stored resource: its bytes, and etcd's mod_revision (the generation of the file in file mode)."""

    id: str
    value: bytes
    revision: int
    created: int = 0
    """etcd's create_revision; 0 where there is none to tell."""


class Reading(Protocol):
    """Where rows are read from."""

    async def list(self, kind: str) -> tuple[Row, ...]:
        """All rows of a kind, in the order of their ids. Raises StoreAway."""

    async def page(self, kind: str, after: str, limit: int) -> tuple[Row, ...]:
        """At most `limit` rows behind the id `after`, in the order of their ids. Raises StoreAway."""

    async def some(self, kind: str, ids: Sequence[str]) -> tuple[Row, ...]:
        """The rows with these ids that there are, in this order. Raises StoreAway."""

    async def get(self, kind: str, id: str) -> Row:
        """One row. Raises Unknown, StoreAway."""


class EtcdRows:
    """`Reading` from etcd: what is read was committed before it was asked for."""

    def __init__(self, client: Etcd, roots: Roots) -> None:
        self._client = client
        self._roots = roots

    async def list(self, kind: str) -> tuple[Row, ...]:
        prefix = self._roots.resource(kind, "")
        async with asking():
            for _ in range(_TRIES):
                with suppress(Compacted):  # others compacted between two pages: read anew
                    return await self._listed(prefix)
            raise StoreUnavailable("etcd is compacted faster than a kind can be read")

    async def _listed(self, prefix: str) -> tuple[Row, ...]:
        """Page by page, so that other requests get their turn, and all as of one revision."""
        rows: list[Row] = []
        after, revision = "", 0
        while True:
            found = await self._client.page(prefix, after=after, limit=_PAGE, revision=revision)
            rows += _rows(found.rows, prefix)
            if not found.more:
                return tuple(rows)
            after, revision = found.rows[-1].key, found.revision if revision == 0 else revision

    async def page(self, kind: str, after: str, limit: int) -> tuple[Row, ...]:
        prefix = self._roots.resource(kind, "")
        async with asking():
            # Always behind something: a foreign row without an id must not make the first page look like the last.
            found = await self._client.page(prefix, after=prefix + after, limit=limit)
        return _rows(found.rows, prefix)

    async def some(self, kind: str, ids: Sequence[str]) -> tuple[Row, ...]:
        prefix = self._roots.resource(kind, "")
        found: list[KeyValue] = []
        async with asking():
            for begin in range(0, len(ids), MOST_TOGETHER):
                rows, _ = await self._client.together([prefix + id for id in ids[begin : begin + MOST_TOGETHER]])
                found += (row for row in rows if row is not None)
        return _rows(found, prefix)

    async def get(self, kind: str, id: str) -> Row:
        async with asking():
            row = await self._client.get(self._roots.resource(kind, id))
        if row is None:
            raise Unknown
        return Row(id, row.value, row.mod_revision, row.create_revision)


def _rows(found: Sequence[KeyValue], prefix: str) -> tuple[Row, ...]:
    return tuple(
        Row(row.key[len(prefix) :], row.value, row.mod_revision, row.create_revision)
        for row in found
        if row.key != prefix
    )


@dataclass(slots=True)
class Sent:
    """What is known of the transactions of one call."""

    in_flight: bool = False
    """One was sent and nothing was heard of it."""
    lost: bool = False
    """The answer of one was lost, and it is not known to have been committed."""

    @property
    def doubtful(self) -> bool:
        """Whether a write may have taken effect without our knowing."""
        return self.in_flight or self.lost


@asynccontextmanager
async def asking(sent: Sent | None = None) -> AsyncIterator[None]:
    """Bound what happens inside by DEADLINE and say etcd's troubles in words for operators.

    `sent` is what is noted of writes inside: where one is in doubt, that is what has to be said.
    """
    try:
        async with asyncio.timeout(DEADLINE):
            yield
    except (StoreUnavailable, StoreDenied, StoreRejected, TimeoutError) as error:
        if sent is not None and sent.doubtful:
            raise StoreAway(IN_DOUBT) from error
        raise StoreAway(_said(error)) from error


def _said(error: Exception) -> str:
    if isinstance(error, StoreDenied):
        return "etcd refused us: check `etcd.user`, its password and its roles"
    if isinstance(error, StoreRejected):
        return (
            "etcd refused the request: check its alarms and its space quota with "
            "`etcdctl alarm list` and `etcdctl endpoint status`"
        )
    return (
        "etcd cannot be reached or has no leader: check that it runs and that `etcd.endpoints` and `etcd.tls` "
        "are right; the log of this service names the cause"
    )
