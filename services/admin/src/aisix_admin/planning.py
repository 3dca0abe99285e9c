"""What a write wants, and what it means for other rows: names it claims, references it makes, users it leaves. Pure.

`store.py` reads the view, asks here, and commits what `transaction.py` makes of it. A write is *structural* when it
makes or removes a row, a name or a reference: those take turns over a row of etcd (the turn row), so that what was
looked up of other rows still holds.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aisix_common.resources import Kind
from aisix_common.store.types import KeyValue

from .errors import TooLarge
from .facts import NOTHING, Facts, Pointed, facts_of, providers_of
from .history import History, read_history
from .index import Place, ResourceIndex
from .rows import MOST_TOGETHER, Row


@dataclass(frozen=True, slots=True)
class Edit:
    """What is to become of one resource."""

    kind: Kind[Any]
    id: str
    action: str
    """For history and audit: created, replaced, patched, deleted, purged, rotated, rolled_back, restored."""
    value: Any = None
    """The typed resource; None: it is deleted. Secrets that were kept by mask are as they were stored, sealed or not;
    new ones are in clear."""
    stored: Mapping[str, Any] | None = None
    """Its document as it is to be stored, but for the secrets in it, which are those of `value`."""

    @property
    def place(self) -> Place:
        """Kind and id."""
        return self.kind.name, self.id

    @property
    def facts(self) -> Facts:
        """What the index will know of it."""
        return NOTHING if self.value is None else facts_of(self.kind, self.value)


@dataclass(frozen=True, slots=True)
class View:
    """What a write is decided on: rows and histories of its targets. Its transaction compares every one of them."""

    rows: Mapping[Place, KeyValue | None]
    histories: Mapping[Place, KeyValue | None]

    def row(self, kind: str, id: str) -> Row | None:
        """The stored resource, or None. KeyError for what is no target of the write."""
        found = self.rows[kind, id]
        return Row(id, found.value, found.mod_revision) if found is not None else None

    def history(self, kind: str, id: str) -> History:
        """Its versions so far."""
        found = self.histories[kind, id]
        return read_history(found.value, found.mod_revision) if found else History()


@dataclass(frozen=True, slots=True)
class Question:
    """What has to be asked of rows outside of the write before it may be done."""

    edit: Edit
    pointed: Pointed
    """The name that must be free, or the row that must exist."""
    at: tuple[str | int, ...] = ()
    """Where in the edit's document the reference stands."""


class Planner:
    """What the `edits` of one write mean for other rows, decided on `view`."""

    def __init__(
        self,
        edits: Sequence[Edit],
        view: View,
        index: ResourceIndex,
        given: Collection[Pointed] = frozenset(),
    ) -> None:
        """`given` exists without a row: secret providers of config.yaml."""
        self.edits = edits
        self.view = view
        self._index = index
        self._given = given
        self.before = {edit.place: self._facts_before(edit) for edit in edits}
        self.after = {edit.place: edit.facts for edit in edits}

    def _facts_before(self, edit: Edit) -> Facts | None:
        row = self.view.rows[edit.place]
        return None if row is None else self._index.facts(edit.kind.name, row.value)

    @property
    def structural(self) -> bool:
        """Whether a row, a name or a reference comes or goes."""
        return any(map(self.is_structural, self.edits))

    def is_structural(self, edit: Edit) -> bool:
        """Whether this edit does."""
        before, after = self.before[edit.place], self.after[edit.place]
        if before is None or edit.value is None:
            return before is not None or edit.value is not None
        return (before.name, before.points) != (after.name, after.points)

    def claims(self) -> Iterator[tuple[Edit, str]]:
        """(edit, name) of every name that is new to its row."""
        for edit in self.edits:
            name, before = self.after[edit.place].name, self.before[edit.place]
            if name is not None and (before is None or before.name != name):
                yield edit, name

    def rivals(self) -> Iterator[tuple[Edit, str, str]]:
        """(edit, name, id) of every row that seems to hold a claimed name, those of the same write aside."""
        for edit, name in self.claims():
            for id in sorted(self._index.holders(edit.kind.name, name)):
                if (edit.kind.name, id) not in self.after:
                    yield edit, name, id

    def doubled(self) -> Iterator[tuple[Edit, str]]:
        """Edits that claim a name which another edit of the same write has."""
        for edit, name in self.claims():
            for place, facts in self.after.items():
                if place[0] == edit.kind.name and place != edit.place and facts.name == name:
                    yield edit, name

    def questions(self) -> Iterator[Question]:
        """The references that are new to their row, to rows that are not part of the same write."""
        for edit in self.edits:
            if edit.value is None:
                continue
            before = self.before[edit.place]
            known = before.points if before is not None else ()
            for at, pointed in _pointing(edit):
                if pointed not in known and pointed not in self._given and not self._brought(pointed):
                    yield Question(edit, pointed, at)

    def _brought(self, pointed: Pointed) -> bool:
        kind, by, value = pointed
        if by == "id":
            return any(edit.place == (kind, value) and edit.value is not None for edit in self.edits)
        return any(place[0] == kind and facts.name == value for place, facts in self.after.items())

    def stands(self, pointed: Pointed) -> list[str]:
        """The ids outside of the write by which the index thinks that `pointed` exists."""
        kind, by, value = pointed
        if by == "id":
            there = self._index.get(kind, value) is not None and (kind, value) not in self.after
            return [value] if there else []
        return [id for id in self._index.holders(kind, value) if (kind, id) not in self.after]

    def freed(self) -> Iterator[tuple[Edit, list[Place]]]:
        """Edits that take away what others refer to, with those others."""
        for edit in self.edits:
            before, after = self.before[edit.place], self.after[edit.place]
            if before is None:
                continue
            gone: list[Pointed] = [(edit.kind.name, "id", edit.id)] if edit.value is None else []
            if before.name is not None and before.name != after.name:
                gone.append((edit.kind.name, "name", before.name))
            users = [
                place
                for pointed in gone
                if not self._brought(pointed) and not self._others(edit, pointed)
                for place in sorted(self._index.users(pointed))
                if place != edit.place and (place not in self.after or pointed in self.after[place].points)
            ]
            if users:
                yield edit, list(dict.fromkeys(users))

    def _others(self, edit: Edit, pointed: Pointed) -> bool:
        """Whether a name stays good because it is given anyway, or a second row has it, too (foreign writers may make
        such)."""
        return pointed in self._given or (pointed[1] == "name" and any(id != edit.id for id in self.stands(pointed)))


def _pointing(edit: Edit) -> Iterator[tuple[tuple[str | int, ...], Pointed]]:
    """(path, what is pointed at) of everything that must exist for an edit."""
    for each in edit.kind.references(edit.value):
        if each.hard:
            yield each.at, (each.kind, each.by, each.value)
    for at, pointed in providers_of(edit.kind, edit.value):
        yield tuple(at), pointed


def require_few(documents: int) -> None:
    """Raise TooLarge for a set that is more than one transaction: two operations each (itself, its history) and two."""
    needed = 2 * documents + 2
    if needed > MOST_TOGETHER:
        raise TooLarge(
            f"this set needs {needed} operations of etcd, two for each resource (itself and its history) and two more; "
            f"{MOST_TOGETHER} are possible: send at most {(MOST_TOGETHER - 2) // 2} resources at once"
        )
