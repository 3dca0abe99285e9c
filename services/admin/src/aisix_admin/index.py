"""What the admin knows of every row without reading it: its name, its label, and the rows it refers to.

Uniqueness and references are decided on this instead of on a list of all rows. Pure: fed with watch events, asked by
`store.py`. What is found here is a hint that the store confirms; that nothing is found counts only together with the
revision up to which the index is complete.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias

from aisix_common.resources import Kind
from aisix_common.store.types import Alive, Changes, Deleted, KeyValue, Listing, WatchEvent

from .facts import FactReader, Facts, Pointed, Reader

Place: TypeAlias = tuple[str, str]
"""Kind and id of a row."""

RESOURCES: Final = 0
EXT: Final = 1


class _Rows:
    """The rows of one kind."""

    def __init__(self) -> None:
        self.by_id: dict[str, tuple[Facts, int]] = {}
        self.holders: dict[str, set[str]] = {}
        self.sorted: list[tuple[str, str]] | None = None
        """(what it is called, id) in order; made when first asked for, and kept in order from then on."""


class ResourceIndex:
    """The facts of every row under the resource root, and under the ext root where there is one.

    Roots are followed one by one: `RESOURCES` and `EXT` are their places in what is kept of each.
    """

    def __init__(
        self, root: str, kinds: Iterable[Kind[Any]], reader: Reader | None = None, *, ext: str | None = None
    ) -> None:
        """Without `ext` all kinds lie under `root`, which is all that is followed."""
        kinds = tuple(kinds)
        self._roots: Final = tuple(each.rstrip("/") + "/" for each in (root, ext) if each is not None)
        self._root_of: Final = {kind.name: EXT if kind.external and ext is not None else RESOURCES for kind in kinds}
        self.facts: Final[Reader] = reader or FactReader(kinds)
        self._rows = {kind: _Rows() for kind in self._root_of}
        self._users: list[dict[Pointed, set[Place]]] = [{} for _ in self._roots]
        """Of each root, the rows there that refer to something."""
        self._standing = [(0, 0) for _ in self._roots]

    @property
    def standing(self) -> tuple[tuple[int, int], ...]:
        """Of each root: how many whole lists were seen since the start (each after the first: the watch had to begin
        anew), and the etcd revision up to which everything was delivered."""
        return tuple(self._standing)

    @property
    def revision(self) -> int:
        """The etcd revision up to which everything under the resource root was delivered."""
        return self.delivered()

    def delivered(self, *, external: bool = False) -> int:
        """The same of one root: of the external kinds, or of the others. A root in which nothing happens may stay
        behind by minutes, as an old etcd tells of its progress that rarely."""
        return self._standing[EXT if external and len(self._standing) > 1 else RESOURCES][1]

    @property
    def listings(self) -> int:
        """How many whole lists were seen since the start, of all roots together."""
        return sum(listings for listings, _ in self._standing)

    @property
    def listed(self) -> bool:
        """Whether a whole list of every root was seen since the start."""
        return all(listings for listings, _ in self._standing)

    def renewed(self, before: Sequence[tuple[int, int]], revision: int) -> bool:
        """Whether every root that knew of more than etcd has at `revision` was listed anew since its `standing` was
        `before`."""
        return all(
            known <= revision or now != listings
            for (listings, known), (now, _) in zip(before, self._standing, strict=True)
        )

    def get(self, kind: str, id: str) -> Facts | None:
        """The facts of a row, or None where there is none."""
        row = self._rows[kind].by_id.get(id)
        return row and row[0]

    def revision_of(self, kind: str, id: str) -> int:
        """The mod_revision the index has of a row; 0 where there is none."""
        row = self._rows[kind].by_id.get(id)
        return row[1] if row else 0

    def holders(self, kind: str, name: str) -> frozenset[str]:
        """The ids of the rows that have this name."""
        return frozenset(self._rows[kind].holders.get(name, ()))

    def users(self, pointed: Pointed) -> frozenset[Place]:
        """The rows that refer to it."""
        return frozenset(place for users in self._users for place in users.get(pointed, ()))

    def names(self, kind: str) -> frozenset[str]:
        """Every name that a row of this kind has."""
        return frozenset(self._rows[kind].holders)

    def sorted(self, kind: str) -> list[tuple[str, str]]:
        """(what it is called, id) of every row, in order; rows without a name come first, as ''. Not to be changed."""
        rows = self._rows[kind]
        if rows.sorted is None:
            rows.sorted = sorted((facts.called or "", id) for id, (facts, _) in rows.by_id.items())
        return rows.sorted

    def size(self, kind: str) -> int:
        """How many rows a kind has."""
        return len(self._rows[kind].by_id)

    def apply(self, event: WatchEvent, root: int = RESOURCES) -> None:
        """Take in what the watcher of a root delivered."""
        listings, known = self._standing[root]
        if isinstance(event, Listing):
            # A list replaces everything, also what is newer here: etcd may have been restored from an older backup.
            self._rows |= {kind: _Rows() for kind, its in self._root_of.items() if its == root}
            self._users[root] = {}
            for kind, id, row in self._placed(event.rows, root):
                self.put(kind, id, self.facts(kind, row.value), row.mod_revision)
            self._standing[root] = (listings + 1, event.revision)
        elif isinstance(event, Changes):
            for change in event.events:
                place = self._place(change.key, root)
                if place is None:
                    continue
                if isinstance(change, Deleted):
                    self.drop(*place, change.mod_revision)
                elif self.revision_of(*place) < change.mod_revision:
                    self.put(*place, self.facts(place[0], change.value), change.mod_revision)
            self._standing[root] = (listings, max(known, event.revision))
        elif isinstance(event, Alive):
            self._standing[root] = (listings, max(known, event.revision))

    def put(self, kind: str, id: str, facts: Facts, revision: int) -> None:
        """A row was written at `revision`. Older news than what is known is ignored."""
        rows = self._rows[kind]
        known = rows.by_id.get(id)
        if known is not None and known[1] >= revision:
            return
        if known is not None and known[0] == facts:
            rows.by_id[id] = (facts, revision)
            return
        self._forget(kind, id)
        rows.by_id[id] = (facts, revision)
        if rows.sorted is not None:
            insort(rows.sorted, (facts.called or "", id))
        if facts.name is not None:
            rows.holders.setdefault(facts.name, set()).add(id)
        for pointed in facts.points:
            self._users[self._root_of[kind]].setdefault(pointed, set()).add((kind, id))

    def drop(self, kind: str, id: str, revision: int) -> None:
        """A row was deleted at `revision`."""
        if 0 < self.revision_of(kind, id) < revision:
            self._forget(kind, id)

    def _forget(self, kind: str, id: str) -> None:
        rows = self._rows[kind]
        if id not in rows.by_id:
            return
        facts, _ = rows.by_id.pop(id)
        if rows.sorted is not None:
            del rows.sorted[bisect_left(rows.sorted, (facts.called or "", id))]
        if facts.name is not None:
            _remove(rows.holders, facts.name, id)
        for pointed in facts.points:
            _remove(self._users[self._root_of[kind]], pointed, (kind, id))

    def _placed(self, rows: Iterable[KeyValue], root: int) -> Iterator[tuple[str, str, KeyValue]]:
        for row in rows:
            place = self._place(row.key, root)
            if place is not None:
                yield *place, row

    def _place(self, key: str, root: int) -> Place | None:
        prefix = self._roots[root]
        if not key.startswith(prefix):
            return None
        kind, _, id = key[len(prefix) :].partition("/")
        return (kind, id) if id and self._root_of.get(kind) == root else None


def _remove(sets: dict[Any, set[Any]], key: Any, member: Any) -> None:
    members = sets[key]
    members.discard(member)
    if not members:
        del sets[key]
