"""A plan as transactions: one if it fits, else chunks between the markers `applying` and `done`. Pure.

They are made one after the other, when they are asked for: what is sealed of 50,000 rows never lies in memory at once.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final, TypeAlias

from aisix_common.managed.projected import Marker, marker_row, projection_key
from aisix_common.store.types import Compare, Delete, Operation, Put

from .markers import Fence, touches

MOST_OPERATIONS: Final = 100
"""Of one transaction, the projection row included (design 5)."""
MOST_BYTES: Final = 1024 * 1024
"""Of keys and values in one transaction, all told (design 5)."""
OVERHEAD_BYTES: Final = 1024
"""What the projection row and the compares of a transaction take at most."""
OPERATION_BYTES: Final = 32
"""What an operation takes on the wire besides key and value."""

Sealable: TypeAlias = tuple[Put | Delete, bool]
"""An operation, and whether a secret was sealed in it just now."""


@dataclass(frozen=True, slots=True)
class Step:
    """One transaction. It must be committed before the next one is made."""

    marker: Marker
    """What the projection row says with it."""
    operations: tuple[Put | Delete, ...] = ()
    """On rows; the projection row is not among them."""
    sealed: bool = False
    """Whether a secret was sealed in it just now."""
    begins: bool = False
    """Whether a projection in several transactions begins with it."""

    def marked(self, fence: Fence, resources: str, ext: str) -> Marker:
        """The projection row of this transaction; the roots are those of the layout."""
        keys = [operation.key for operation in self.operations]
        return fence.marked(self.marker, begins=self.begins, rows=touches(keys, resources), ext_rows=touches(keys, ext))

    def transaction(self, fence: Fence, marker: Marker, run_root: str) -> tuple[list[Compare], list[Operation]]:
        """What etcd is asked to do; `marker` is `marked` with the same fence. The next step's fence is `fence.after`
        its revision."""
        written = Put(projection_key(run_root), marker_row(marker))
        return fence.compares(run_root, sealed=self.sealed), [*self.operations, written]


def operation_size(key: str, value: int = 0) -> int:
    """Bytes that an operation counts for; `value`: those of the value."""
    return len(key.encode()) + value + OPERATION_BYTES


def fits(key: str, value: int) -> bool:
    """Whether a row can be written at all."""
    return OVERHEAD_BYTES + operation_size(key, value) <= MOST_BYTES


def in_steps(operations: Iterable[Sealable], before: Marker | None, done: Marker) -> Iterator[Step]:
    """The transactions of `operations`, in this order. `before` is the projection row as it stands, if it is of this
    environment; `done` what it has to say in the end. Where all is so already there are none."""
    groups = _groups(operations)
    first = next(groups, None)
    if first is None:
        if before is None or before.bare != done:
            yield Step(done)
        return
    second = next(groups, None)
    if second is None:
        yield _step(done, first)
        return
    applying = Marker(done.env_id, before.cloud_revision if before else 0, "applying", done.cloud_revision)
    if before is None or before.bare != applying:
        yield Step(applying, begins=True)
    for group in chain((first, second), groups):
        yield _step(applying, group)
    yield Step(done)


def _step(marker: Marker, group: list[Sealable]) -> Step:
    return Step(marker, tuple(operation for operation, _ in group), any(sealed for _, sealed in group))


def _groups(operations: Iterable[Sealable]) -> Iterator[list[Sealable]]:
    group: list[Sealable] = []
    size = OVERHEAD_BYTES
    for each in operations:
        operation = each[0]
        more = operation_size(operation.key, len(operation.value) if isinstance(operation, Put) else 0)
        if group and (len(group) == MOST_OPERATIONS - 1 or size + more > MOST_BYTES):
            yield group
            group, size = [], OVERHEAD_BYTES
        group.append(each)
        size += more
    if group:
        yield group
