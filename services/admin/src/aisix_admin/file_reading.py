"""Reading resources where they come from a file: the rows of `file_rows`, with the index kept beside them.

The admin only reads then; everything it would write is refused at the edge.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Final

from aisix_common.errors import StoreUnavailable
from aisix_common.resources import Kind
from aisix_common.store.types import (
    Compare,
    KeyValue,
    Listing,
    Lost,
    Operation,
    RangeResult,
    TransactionResult,
    WatchEvent,
)

from .errors import Unknown
from .file_rows import FileRows
from .rows import Roots, Row

_NONE: Final = "resources come from a file: there is no etcd"


class FileReading:
    """`Reading` of a resources file, and the events that keep a follower's index true over reloads."""

    def __init__(self, file: FileRows, roots: Roots, kinds: Iterable[Kind[Any]]) -> None:
        self._file = file
        self._roots = roots
        self._kinds = tuple(kind.name for kind in kinds)
        self._asked = asyncio.Event()

    def reload(self) -> None:
        """Ask for the file to be read again; soon, by whoever runs `events`."""
        self._asked.set()

    async def events(self) -> AsyncIterator[WatchEvent]:
        """A listing now, and one after every reload that was used."""
        generation = 1
        yield self._listing(generation)
        while True:
            await self._asked.wait()
            self._asked.clear()
            if await asyncio.to_thread(self._file.reload):
                generation += 1
                yield self._listing(generation)

    def _listing(self, generation: int) -> Listing:
        rows = (
            KeyValue(self._roots.resource(kind, row.id), row.value, row.revision, row.revision)
            for kind in self._kinds
            for row in self._file.list(kind)
        )
        return Listing(tuple(rows), generation)

    async def list(self, kind: str) -> tuple[Row, ...]:
        return self._file.list(kind)

    async def page(self, kind: str, after: str, limit: int) -> tuple[Row, ...]:
        return tuple(row for row in self._file.list(kind) if row.id > after)[:limit]

    async def some(self, kind: str, ids: Sequence[str]) -> tuple[Row, ...]:
        return tuple(row for id in ids if (row := self._file.get(kind, id)) is not None)

    async def get(self, kind: str, id: str) -> Row:
        row = self._file.get(kind, id)
        if row is None:
            raise Unknown
        return row


class NoEtcd:
    """Stands where etcd would be. Nothing gets here: the edge refuses what needs etcd."""

    async def get(self, key: str) -> KeyValue | None:
        raise StoreUnavailable(_NONE)

    async def range(self, prefix: str, *, limit: int = 0, revision: int = 0) -> RangeResult:
        raise StoreUnavailable(_NONE)

    async def page(
        self, prefix: str, *, after: str = "", limit: int, start: str = "", revision: int = 0
    ) -> RangeResult:
        raise StoreUnavailable(_NONE)

    async def together(self, keys: Sequence[str]) -> tuple[tuple[KeyValue | None, ...], int]:
        raise StoreUnavailable(_NONE)

    async def txn(
        self, compare: Sequence[Compare], success: Sequence[Operation], failure: Sequence[Operation] = ()
    ) -> TransactionResult:
        raise StoreUnavailable(_NONE)


async def silence() -> AsyncIterator[WatchEvent]:
    """Events of what does not exist: none, and no end."""
    await asyncio.Event().wait()
    yield Lost(_NONE)
