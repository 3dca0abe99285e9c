"""From what a write wants to the one transaction that does it, with its history and audit rows. Pure.

`store.py` reads the view, asks here, and commits. A write is *structural* when it makes or removes a row, a name or a
reference: those take turns over one row of etcd (the turn row), so that what was looked up of other rows still holds.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec

from aisix_common.clock import rfc3339
from aisix_common.resources import Kind, Loaded, masked, read
from aisix_common.store.types import Compare, Compared, Comparison, Delete, KeyValue, Operation, Put, unchanged

from .audit import Actor, Changed, entry
from .changes import changed_paths
from .errors import TooLarge
from .facts import NOTHING, Facts, Pointed, facts_of, providers_of
from .history import History, Version, appended, read_history, with_found
from .index import Place, ResourceIndex
from .rows import MOST_TOGETHER, Roots, Row
from .sealing import Sealing

VALUE_LIMIT: Final = 1024 * 1024
"""Bytes of one stored document, and of all that one transaction writes for several: etcd takes 1.5 MiB."""

_MOST_COMPARES: Final = 120
"""etcd takes 128."""


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
class Shared:
    """The rows that writes share, as they were read; None: there is none yet."""

    turn: KeyValue | None = None
    """Of the resource root."""
    turn_ext: KeyValue | None = None
    """Of the ext root."""
    canary: KeyValue | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What has to be asked of rows outside of the write before it may be done."""

    edit: Edit
    pointed: Pointed
    """The name that must be free, or the row that must exist."""
    at: tuple[str | int, ...] = ()
    """Where in the edit's document the reference stands."""


@dataclass(slots=True)
class Plan:
    """One transaction, and what follows from it."""

    compare: list[Compare] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    undo: list[Operation] = field(default_factory=list)
    """Restores what was there before, for a write that has to be withdrawn."""
    facts: dict[Place, Facts | None] = field(default_factory=dict)
    """For the index; None: the row is gone."""
    claims: dict[tuple[str, str], str] = field(default_factory=dict)
    """(kind, name) -> id, of names that are new to their row."""
    told: tuple[Changed, ...] = ()
    """What the audit says of each edit, in their order."""
    structural: bool = False
    sealed: bool = False
    """Whether a secret was sealed just now."""
    overhead: int = 0
    """Bytes of history and audit."""


class Planner:
    """Makes the transaction of `edits`, decided on `view`."""

    def __init__(
        self,
        edits: Sequence[Edit],
        view: View,
        index: ResourceIndex,
        sealing: Sealing,
        given: Collection[Pointed] = frozenset(),
    ) -> None:
        """`given` exists without a row: secret providers of config.yaml."""
        self.edits = edits
        self._view = view
        self._index = index
        self._sealing = sealing
        self._given = given
        self._before = {edit.place: self._facts_before(edit) for edit in edits}
        self._after = {edit.place: edit.facts for edit in edits}

    def _facts_before(self, edit: Edit) -> Facts | None:
        row = self._view.rows[edit.place]
        return None if row is None else self._index.facts(edit.kind.name, row.value)

    @property
    def structural(self) -> bool:
        """Whether a row, a name or a reference comes or goes."""
        return any(self._structural(edit) for edit in self.edits)

    def _structural(self, edit: Edit) -> bool:
        before, after = self._before[edit.place], self._after[edit.place]
        if before is None or edit.value is None:
            return before is not None or edit.value is not None
        return (before.name, before.points) != (after.name, after.points)

    def claims(self) -> Iterator[tuple[Edit, str]]:
        """(edit, name) of every name that is new to its row."""
        for edit in self.edits:
            name, before = self._after[edit.place].name, self._before[edit.place]
            if name is not None and (before is None or before.name != name):
                yield edit, name

    def rivals(self) -> Iterator[tuple[Edit, str, str]]:
        """(edit, name, id) of every row that seems to hold a claimed name, those of the same write aside."""
        for edit, name in self.claims():
            for id in sorted(self._index.holders(edit.kind.name, name)):
                if (edit.kind.name, id) not in self._after:
                    yield edit, name, id

    def doubled(self) -> Iterator[tuple[Edit, str]]:
        """Edits that claim a name which another edit of the same write has."""
        for edit, name in self.claims():
            for place, facts in self._after.items():
                if place[0] == edit.kind.name and place != edit.place and facts.name == name:
                    yield edit, name

    def questions(self) -> Iterator[Question]:
        """The references that are new to their row, to rows that are not part of the same write."""
        for edit in self.edits:
            if edit.value is None:
                continue
            before = self._before[edit.place]
            known = before.points if before is not None else ()
            for at, pointed in _pointing(edit):
                if pointed not in known and pointed not in self._given and not self._brought(pointed):
                    yield Question(edit, pointed, at)

    def _brought(self, pointed: Pointed) -> bool:
        kind, by, value = pointed
        if by == "id":
            return any(edit.place == (kind, value) and edit.value is not None for edit in self.edits)
        return any(place[0] == kind and facts.name == value for place, facts in self._after.items())

    def stands(self, pointed: Pointed) -> list[str]:
        """The ids outside of the write by which the index thinks that `pointed` exists."""
        kind, by, value = pointed
        if by == "id":
            there = self._index.get(kind, value) is not None and (kind, value) not in self._after
            return [value] if there else []
        return [id for id in self._index.holders(kind, value) if (kind, id) not in self._after]

    def freed(self) -> Iterator[tuple[Edit, list[Place]]]:
        """Edits that take away what others refer to, with those others."""
        for edit in self.edits:
            before, after = self._before[edit.place], self._after[edit.place]
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
                if place != edit.place and (place not in self._after or pointed in self._after[place].points)
            ]
            if users:
                yield edit, list(dict.fromkeys(users))

    def _others(self, edit: Edit, pointed: Pointed) -> bool:
        """Whether a name stays good because it is given anyway, or a second row has it, too (foreign writers may make
        such)."""
        return pointed in self._given or (pointed[1] == "name" and any(id != edit.id for id in self.stands(pointed)))

    def plan(self, roots: Roots, shared: Shared, exist: Sequence[str], wished: "Wish") -> Plan:
        """The transaction. `exist` are the keys of rows that must still exist.

        Raises TooLarge, NoKeyring for secrets that nothing can seal, WrongKeyring.
        """
        made = Plan(structural=self.structural)
        for edit in self.edits:
            self._one(made, edit, roots, wished)
        audit_key = roots.audit(wished.segment)
        made.told = tuple(self._changed(edit) for edit in self.edits)
        made.operations.append(Put(audit_key, wished.audit(made.told)))
        made.undo.append(Delete(audit_key))
        made.compare.append(unchanged(audit_key, 0))
        if made.structural:
            self._take_turns(made, roots, shared, wished)
        if made.sealed:
            self._guard_keyring(made, roots, shared.canary)
        # What there is no room for is only not guarded against others that delete it now: ours wait for the turn.
        room = _MOST_COMPARES - len(made.compare)
        made.compare += [Compare(key, Compared.VERSION, Comparison.GREATER, 0) for key in sorted(set(exist))[:room]]
        made.overhead = sum(
            len(each.value)
            for each in made.operations
            if isinstance(each, Put) and each.key.startswith(roots.run + "/")
        )
        made.claims = {(edit.kind.name, name): edit.id for edit, name in self.claims()}
        _measure(made, len(self.edits))
        return made

    def _take_turns(self, made: Plan, roots: Roots, shared: Shared, wished: "Wish") -> None:
        """Nobody else's structural write may have come between; that this one did is told under the roots it is of."""
        of = {edit.kind.external for edit in self.edits if self._structural(edit)}
        for external, turn in ((False, shared.turn), (True, shared.turn_ext)):
            key = roots.turn(external=external)
            made.compare.append(unchanged(key, turn.mod_revision if turn else 0))
            if external in of:
                made.operations.append(Put(key, wished.segment.encode()))

    def _guard_keyring(self, made: Plan, roots: Roots, canary: KeyValue | None) -> None:
        """What is sealed is sealed under the keyring of everybody else: the canary row tells. It is never taken back,
        as others may rely on it by then."""
        first = self._sealing.canary(canary.value if canary else None)
        made.compare.append(unchanged(roots.canary, canary.mod_revision if canary else 0))
        if first is not None:
            made.operations.append(Put(roots.canary, first))

    def _one(self, made: Plan, edit: Edit, roots: Roots, wished: "Wish") -> None:
        key, row = roots.resource(*edit.place), self._view.rows[edit.place]
        made.compare.append(unchanged(key, row.mod_revision if row else 0))
        if edit.stored is not None:
            stored = self._sealing.sealed(edit.kind, edit.id, edit.stored, edit.value)
            made.sealed = made.sealed or stored.sealed
            value = msgspec.json.encode(stored.document)
            if len(value) > VALUE_LIMIT:
                raise TooLarge(f"the document is over {VALUE_LIMIT} bytes when stored: etcd would not take it")
            made.operations.append(Put(key, value))
        elif row is not None:
            made.operations.append(Delete(key))
        made.undo.append(Put(key, row.value) if row else Delete(key))
        made.facts[edit.place] = None if edit.value is None else self._after[edit.place]
        history_key, past = roots.history(*edit.place), self._view.histories[edit.place]
        made.compare.append(unchanged(history_key, past.mod_revision if past else 0))
        if wished.purge:
            made.operations.append(Delete(history_key))
        else:
            made.operations.append(Put(history_key, self._appended(edit, row, wished)))
        made.undo.append(Put(history_key, past.value) if past else Delete(history_key))

    def _appended(self, edit: Edit, row: KeyValue | None, wished: "Wish") -> bytes:
        history = self._view.history(*edit.place)
        if row is not None:
            loaded = read(edit.kind, row.value)
            shown = masked(edit.kind, loaded.value) if isinstance(loaded, Loaded) else None
            history = with_found(history, shown, row.mod_revision)
        value = None if edit.value is None else masked(edit.kind, edit.value)
        changed = self._changed(edit).changed
        version = Version(0, rfc3339(wished.moment), wished.actor.who, edit.action, changed, value)
        return appended(history, version, wished.versions)

    def _changed(self, edit: Edit) -> Changed:
        before, row = None, self._view.rows[edit.place]
        if row is not None:
            loaded = read(edit.kind, row.value)
            before = self._comparable(edit, loaded.value) if isinstance(loaded, Loaded) else None
        after = None if edit.value is None else self._comparable(edit, edit.value)
        facts = self._after[edit.place] if edit.value is not None else self._before[edit.place]
        changed = changed_paths(before, after) if after is not None else ()
        return Changed(edit.kind.name, edit.id, edit.action, (facts.called if facts else None) or None, changed)

    def _comparable(self, edit: Edit, value: Any) -> dict[str, Any]:
        """The document with its secrets in clear as far as they can be opened, to find out what changes: the same
        secret sealed anew is no change. A secret object is one text, so that no path leads into it."""
        plain = self._sealing.clear(edit.kind, edit.id, value)
        comparable: dict[str, Any] = _closed(plain, masked(edit.kind, value))
        return comparable


@dataclass(frozen=True, slots=True)
class Wish:
    """What a write is done with, besides its edits."""

    actor: Actor
    moment: datetime
    segment: str
    """Of the audit row's key; of this attempt alone."""
    versions: int
    """How many versions of a resource are kept."""
    purge: bool = False
    forced: bool = False

    def audit(self, changes: Sequence[Changed]) -> bytes:
        """The audit row."""
        return msgspec.json.encode(entry(self.moment, self.actor, changes, forced=self.forced))


def _pointing(edit: Edit) -> Iterator[tuple[tuple[str | int, ...], Pointed]]:
    """(path, what is pointed at) of everything that must exist for an edit."""
    for each in edit.kind.references(edit.value):
        if each.hard:
            yield each.at, (each.kind, each.by, each.value)
    for at, pointed in providers_of(edit.kind, edit.value):
        yield tuple(at), pointed


def _closed(clear: Any, shown: Any) -> Any:
    if not isinstance(clear, dict):
        return clear
    if not isinstance(shown, dict):
        return msgspec.json.encode(clear, order="deterministic")
    return {name: _closed(item, shown[name]) for name, item in clear.items()}


def _measure(made: Plan, edits: int) -> None:
    if edits == 1:
        return
    size = sum(len(each.value) for each in made.operations if isinstance(each, Put))
    if size > VALUE_LIMIT:
        raise TooLarge(f"this set needs {size} bytes of etcd, history and audit included; {VALUE_LIMIT} are possible")


def require_few(documents: int) -> None:
    """Raise TooLarge for a set that is more than one transaction: two operations each (itself, its history) and two."""
    needed = 2 * documents + 2
    if needed > MOST_TOGETHER:
        raise TooLarge(
            f"this set needs {needed} operations of etcd, two for each resource (itself and its history) and two more; "
            f"{MOST_TOGETHER} are possible: send at most {(MOST_TOGETHER - 2) // 2} resources at once"
        )
