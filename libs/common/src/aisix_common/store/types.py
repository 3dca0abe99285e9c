"""The values that cross the store's boundary. Revisions are etcd's 64-bit ones; keys are text, values are bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class KeyValue:
    """One row of etcd as it was at some revision."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    version: int = 1
    lease: int = 0


@dataclass(frozen=True, slots=True)
class RangeResult:
    """What a range read found, and the header revision it was read at."""

    rows: tuple[KeyValue, ...]
    revision: int
    more: bool = False
    count: int = 0


@dataclass(frozen=True, slots=True)
class Put:
    """Write a row. `lease` 0 means it stays until deleted."""

    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete one key, or every key that starts with it when `prefix` is set."""

    key: str
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class Get:
    """Read inside a transaction: one key, or every key that starts with it when `prefix` is set."""

    key: str
    prefix: bool = False


Operation: TypeAlias = Put | Delete | Get


class Comparison(Enum):
    """How a compared number must stand to the given one."""

    EQUAL = 0
    GREATER = 1
    LESS = 2
    NOT_EQUAL = 3


class Compared(Enum):
    """Which number of a row is compared. A key that does not exist has version, create and mod revision 0."""

    VERSION = 0
    CREATE = 1
    MOD = 2


@dataclass(frozen=True, slots=True)
class Compare:
    """One condition of a transaction. With `prefix`, it must hold for every key that starts with `key`."""

    key: str
    target: Compared
    how: Comparison
    number: int
    prefix: bool = False


def unchanged(key: str, mod_revision: int) -> Compare:
    """The row is still the one that was read at `mod_revision` (0: it still does not exist)."""
    return Compare(key, Compared.MOD, Comparison.EQUAL, mod_revision)


def nothing_newer(prefix: str, revision: int) -> Compare:
    """No row under `prefix` was written after `revision` (a range compare: foreign writers count too)."""
    return Compare(prefix, Compared.MOD, Comparison.LESS, revision + 1, prefix=True)


@dataclass(frozen=True, slots=True)
class TransactionResult:
    """Which branch ran, at which revision, and what each of its operations answered (reads: rows; writes: nothing)."""

    succeeded: bool
    revision: int
    reads: tuple[tuple[KeyValue, ...], ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything under the prefix at one revision. It replaces whatever was known before."""

    rows: tuple[KeyValue, ...]
    revision: int


@dataclass(frozen=True, slots=True)
class Deleted:
    """A key that is gone since `mod_revision`."""

    key: str
    mod_revision: int


@dataclass(frozen=True, slots=True)
class Changes:
    """All changes of one or more whole revisions, in order: a revision is never split over two of these."""

    events: Sequence[KeyValue | Deleted]
    revision: int


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection, leader or token is gone; the watcher is trying again. For status and logs only."""

    reason: str


@dataclass(frozen=True, slots=True)
class Alive:
    """etcd answered and nothing is outstanding: all changes up to `revision` have been delivered."""

    revision: int


WatchEvent: TypeAlias = Listing | Changes | Lost | Alive


@dataclass(frozen=True, slots=True)
class Status:
    """What one member of etcd says about itself. Sizes are bytes."""

    version: str
    revision: int
    cluster_id: int
    member_id: int
    leader: int
    """Member id of the leader; 0 when there is none."""
    raft_term: int
    db_size: int
    db_size_in_use: int
    errors: tuple[str, ...] = ()
