"""What of the configuration is not served as it was written, for this instance's row: rejected rows, and fields that
nobody knows. The cloud agent tells the Cloud of both (control-plane 6.3).

The row is made every second, and tens of thousands of rows may carry an unknown field: only what changed since the last
time is looked at.
"""

from collections import Counter
from collections.abc import Sequence
from heapq import nlargest
from typing import Final

import msgspec

from aisix_common.snapshot import RejectedRow, Snapshot
from aisix_common.snapshot.sharded import NOTHING, Sharded, differing

MOST_REJECTED: Final = 64
MOST_FIELDS: Final = 64
MOST_TEXT: Final = 256
"""Characters of an id, a key, a message or a path."""


class RejectedResource(msgspec.Struct, frozen=True, omit_defaults=True):
    """A row that is not served."""

    kind: str
    id: str
    reason: str
    failure: str = ""
    """The class of the failure, such as `schema_failed`."""
    at: int = 0
    """Unix seconds at which it was read last."""
    stale_since: int | None = None
    """Unix seconds since when its last good value is served in its place; None: there is none."""
    external: bool = False
    """Whether it lies under the ext root."""
    key: str = ""
    """Its key below the root, where kind and id cannot be read from that."""


class UnknownField(msgspec.Struct, frozen=True):
    """A field that rows carry and nobody knows."""

    kind: str
    field: str
    """Its path."""
    count: int
    """How many rows carry it."""


class Shortcomings:
    """Follows the snapshots of both roots. Bounded, whatever they hold."""

    def __init__(self) -> None:
        self.rejected_count = 0
        self.rejected: tuple[RejectedResource, ...] = ()
        """The newest, 64 at most."""
        self.fields: tuple[UnknownField, ...] = ()
        """The most frequent, 64 at most, by kind and path."""
        self._rejected: list[Sharded[RejectedRow]] = []
        self._unknown: dict[tuple[str, str], Sharded[tuple[str, ...]]] = {}
        """By root and kind."""
        self._counts: Counter[tuple[str, str]] = Counter()

    def follow(self, snapshot: Snapshot, external: Snapshot | None = None) -> None:
        """Bring everything up to date. Cheap where little has changed since the last time."""
        roots = (snapshot,) if external is None else (snapshot, external)
        rejected = [root.rejected for root in roots]
        if list(map(id, rejected)) != list(map(id, self._rejected)):
            self._rejected = rejected
            self._list(roots)
        counted = [self._count(root) for root in roots]
        if any(counted):
            most = nlargest(MOST_FIELDS, self._counts.items(), key=lambda item: (item[1], item[0]))
            self.fields = tuple(UnknownField(kind, path[:MOST_TEXT], count) for (kind, path), count in sorted(most))

    def _list(self, roots: Sequence[Snapshot]) -> None:
        rows = [(root, key, row) for root in roots for key, row in root.rejected.items()]
        newest = nlargest(MOST_REJECTED, rows, key=lambda found: found[2].revision)
        self.rejected_count = len(rows)
        self.rejected = tuple(_told(key, row, root.prefix, external=root is not roots[0]) for root, key, row in newest)

    def _count(self, root: Snapshot) -> bool:
        """Whether anything of the root's unknown fields has changed."""
        changed = False
        for kind, table in root.tables.items():
            before = self._unknown.get((root.prefix, kind), NOTHING)
            if before is not table.unknown:
                self._unknown[root.prefix, kind] = table.unknown
                changed |= self._recount(kind, before, table.unknown)
        return changed

    def _recount(self, kind: str, before: Sharded[tuple[str, ...]], after: Sharded[tuple[str, ...]]) -> bool:
        ids = differing(before, after)
        for id in ids:
            for path in before.get(id, ()):
                self._counts[kind, path] -= 1
                if not self._counts[kind, path]:
                    del self._counts[kind, path]
            for path in after.get(id, ()):
                self._counts[kind, path] += 1
        return bool(ids)


def _told(key: str, row: RejectedRow, root: str, *, external: bool) -> RejectedResource:
    return RejectedResource(
        row.kind,
        row.id[:MOST_TEXT],
        row.message[:MOST_TEXT],
        failure=row.failure,
        at=int(row.last_seen.timestamp()),
        stale_since=int(row.stale_since.timestamp()) if row.stale_since is not None else None,
        external=external,
        key="" if row.kind else key.removeprefix(f"{root}/")[:MOST_TEXT],
    )
