"""The values that make up a snapshot. Immutable by agreement: whoever holds one may keep it as long as they like."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, TypeVar, cast

import msgspec

from aisix_common.resources import ALL_KINDS, KINDS, Kind
from aisix_common.resources.reading import Failure

from .sharded import NOTHING, Sharded

Resource = TypeVar("Resource", bound=msgspec.Struct)

Touched = Mapping[str, frozenset[str]]
"""Kind -> ids of rows that are served differently."""


class Entry(msgspec.Struct, Generic[Resource], frozen=True, gc=False):
    """One row that is served. `gc=False`: holds no cycles, and there are tens of thousands."""

    id: str
    value: Resource
    revision: int
    """etcd's mod_revision of the bytes that are served (of a last good value: the older ones)."""
    create_revision: int
    raw: bytes
    """The bytes `value` was read from: for hashes and the disk cache. They may hold secrets."""
    unresolved: Resource | None = None
    """`value` with its secret references as the row has them (the same object until they are resolved); None where it
    holds none. Said where rows are read, in a thread if they are many."""

    def __repr__(self) -> str:
        return f"Entry({self.id!r}, revision={self.revision})"


@dataclass(frozen=True, slots=True, eq=False)
class Table(Generic[Resource]):
    """All served rows of one kind. The same object in two snapshots means: nothing of this kind changed."""

    by_id: Sharded[Entry[Resource]]
    by_name: Sharded[Entry[Resource]]
    """Of rows with one name, the one created first (by id where that is equal). Rows without a name are not here."""
    contested: Sharded[frozenset[str]]
    """Name -> ids of the rows that share it, winner included. Names of api_keys are hashes: not to be shown."""
    unknown: Sharded[tuple[str, ...]]
    """Id -> what its row carries that nobody knows (partially compatible rows only)."""

    def shadowed(self) -> Iterator[tuple[str, str]]:
        """(id, id of the winner) of every row whose name belongs to another; served by id, not by name."""
        for name, ids in self.contested.items():
            winner = self.by_name[name].id
            yield from ((loser, winner) for loser in sorted(ids) if loser != winner)


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row as it stands in etcd and is not served. `kind` and `id` are empty where the key cannot be read."""

    kind: str
    id: str
    failure: Failure
    message: str
    first_seen: datetime
    last_seen: datetime
    stale_since: datetime | None
    """Since when the row's last good value is served in its place; None: there is none."""
    revision: int
    create_revision: int
    raw: bytes

    def __repr__(self) -> str:
        return f"RejectedRow({self.kind!r}, {self.id!r}, {self.failure})"


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Everything under the prefix at one revision."""

    prefix: str
    """Without a trailing slash."""
    revision: int
    """The revision of the last listing or change it holds; 0: nothing yet."""
    tables: Mapping[str, Table[Any]]
    """By kind; every kind has one."""
    rejected: Sharded[RejectedRow]
    """By etcd key."""
    apply_seq: int
    """Grows by one whenever what is served changes in content, not in spelling; 1 at the first."""
    applied_at: datetime | None
    """When `apply_seq` last grew."""
    touched: Touched | None
    """What is served differently from the snapshot this one was made from; None: compare everything."""

    def table(self, kind: type[Resource] | Kind[Resource]) -> Table[Resource]:
        """The rows of a kind, by itself or by its Struct. Raises KeyError for a Struct that is no kind."""
        name = kind.name if isinstance(kind, Kind) else _KIND_NAMES[kind]
        return cast("Table[Resource]", self.tables[name])

    @property
    def served(self) -> int:
        """How many rows are served."""
        return sum(len(table.by_id) for table in self.tables.values())


_KIND_NAMES: Final[Mapping[Any, str]] = {kind.struct: kind.name for kind in ALL_KINDS}


def empty(prefix: str, kinds: Iterable[Kind[Any]] = KINDS) -> Snapshot:
    """What is known before anything was read."""
    tables: dict[str, Table[Any]] = {kind.name: Table(NOTHING, NOTHING, NOTHING, NOTHING) for kind in kinds}
    return Snapshot(prefix.rstrip("/"), 0, tables, NOTHING, 0, None, None)
