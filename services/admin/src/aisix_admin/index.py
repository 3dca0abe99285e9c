"""What the admin knows of every row without reading it: its name, its label, and the rows it refers to.

Uniqueness and references are decided on this instead of on a list of all rows. Pure: fed with watch events, asked by
`store.py`. What is found here is a hint that the store confirms; that nothing is found counts only together with the
revision up to which the index is complete.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import msgspec

from aisix_common.resources import Kind, Loaded, read
from aisix_common.store.types import Alive, Changes, Deleted, KeyValue, Listing, WatchEvent

Pointed: TypeAlias = tuple[str, str, str]
"""What a row refers to: kind, `id` or `name`, and which."""
Place: TypeAlias = tuple[str, str]
"""Kind and id of a row."""


class Facts(msgspec.Struct, frozen=True, gc=False):
    """What the index keeps of one row. `gc=False`: holds no cycles, and there are tens of thousands."""

    name: str | None = None
    """What is unique within the kind (for api_keys the key's hash, not to be shown)."""
    label: str | None = None
    """What people call it, in kinds whose name is not for people ("" where it has none)."""
    points: tuple[Pointed, ...] = ()
    """The hard references."""

    @property
    def called(self) -> str | None:
        """The label, else the name."""
        return self.label if self.label is not None else self.name


NOTHING: Final = Facts()
Reader: TypeAlias = Callable[[str, bytes], Facts]
"""Gives the facts of a stored row of a kind. Never raises."""


class FactReader:
    """Reads facts out of stored bytes. A row that is no document of its kind still holds the name it has."""

    def __init__(self, kinds: Iterable[Kind[Any]]) -> None:
        self._kinds: Final[Mapping[str, Kind[Any]]] = {kind.name: kind for kind in kinds}
        self._pointing = {name: kind.references is not _DEFAULT_REFERENCES for name, kind in self._kinds.items()}

    def __call__(self, kind: str, value: bytes) -> Facts:
        described = self._kinds[kind]
        # The label of an api_keys row is not its name, and its soft references are not kept: one plain decode does.
        if self._pointing[kind] and described.label_field is None:
            loaded = read(described, value)
            if isinstance(loaded, Loaded):
                return facts_of(described, loaded.value)
        return _raw_facts(described, value)


def facts_of(kind: Kind[Any], value: Any) -> Facts:
    """The facts of a typed resource."""
    points = tuple(dict.fromkeys((each.kind, each.by, each.value) for each in kind.references(value) if each.hard))
    return Facts(kind.name_of(value), (kind.label_of(value) or "") if kind.label_field else None, points)


def _raw_facts(kind: Kind[Any], value: bytes) -> Facts:
    if kind.singleton:
        return Facts(kind.name)
    try:
        document = msgspec.json.decode(value)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return NOTHING
    if not isinstance(document, dict):
        return NOTHING
    for older, present in kind.renamed.items():
        if older in document and present not in document:
            document[present] = document[older]
    name = document.get(kind.name_field) if kind.name_field else None
    label = document.get(kind.label_field) if kind.label_field else None
    shown = label if isinstance(label, str) else "" if kind.label_field else None
    return Facts(name if isinstance(name, str) else None, shown)


_DEFAULT_REFERENCES: Final = Kind.__dataclass_fields__["references"].default


class _Rows:
    """The rows of one kind."""

    def __init__(self) -> None:
        self.by_id: dict[str, tuple[Facts, int]] = {}
        self.holders: dict[str, set[str]] = {}
        self.sorted: list[tuple[str, str]] | None = None
        """(what it is called, id) in order; made when first asked for, and kept in order from then on."""


class ResourceIndex:
    """The facts of every row under one resource root."""

    def __init__(self, root: str, kinds: Iterable[Kind[Any]], reader: Reader | None = None) -> None:
        kinds = tuple(kinds)
        self._root: Final = root.rstrip("/") + "/"
        self._kinds: Final = tuple(kind.name for kind in kinds)
        self.facts: Final[Reader] = reader or FactReader(kinds)
        self._rows = {kind: _Rows() for kind in self._kinds}
        self._users: dict[Pointed, set[Place]] = {}
        self.listings = 0
        """How many whole lists were seen since the start; each after the first: the watch had to begin anew."""
        self.revision = 0
        """The etcd revision up to which everything was delivered."""

    @property
    def listed(self) -> bool:
        """Whether a whole list was seen since the start."""
        return self.listings > 0

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
        return frozenset(self._users.get(pointed, ()))

    def sorted(self, kind: str) -> list[tuple[str, str]]:
        """(what it is called, id) of every row, in order; rows without a name come first, as ''. Not to be changed."""
        rows = self._rows[kind]
        if rows.sorted is None:
            rows.sorted = sorted((facts.called or "", id) for id, (facts, _) in rows.by_id.items())
        return rows.sorted

    def size(self, kind: str) -> int:
        """How many rows a kind has."""
        return len(self._rows[kind].by_id)

    def apply(self, event: WatchEvent) -> None:
        """Take in what the watcher delivered."""
        if isinstance(event, Listing):
            # A list replaces everything, also what is newer here: etcd may have been restored from an older backup.
            self._rows = {kind: _Rows() for kind in self._kinds}
            self._users = {}
            for kind, id, row in self._placed(event.rows):
                self.put(kind, id, self.facts(kind, row.value), row.mod_revision)
            self.listings += 1
            self.revision = event.revision
        elif isinstance(event, Changes):
            for change in event.events:
                place = self._place(change.key)
                if place is None:
                    continue
                if isinstance(change, Deleted):
                    self.drop(*place, change.mod_revision)
                elif self.revision_of(*place) < change.mod_revision:
                    self.put(*place, self.facts(place[0], change.value), change.mod_revision)
            self.revision = max(self.revision, event.revision)
        elif isinstance(event, Alive):
            self.revision = max(self.revision, event.revision)

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
            self._users.setdefault(pointed, set()).add((kind, id))

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
            _remove(self._users, pointed, (kind, id))

    def _placed(self, rows: Iterable[KeyValue]) -> Iterator[tuple[str, str, KeyValue]]:
        for row in rows:
            place = self._place(row.key)
            if place is not None:
                yield *place, row

    def _place(self, key: str) -> Place | None:
        if not key.startswith(self._root):
            return None
        kind, _, id = key[len(self._root) :].partition("/")
        return (kind, id) if id and kind in self._rows else None


def _remove(sets: dict[Any, set[Any]], key: Any, member: Any) -> None:
    members = sets[key]
    members.discard(member)
    if not members:
        del sets[key]
