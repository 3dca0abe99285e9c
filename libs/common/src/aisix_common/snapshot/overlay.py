"""Resolved secret references over a snapshot: what etcd holds stays as it is, what is served holds the secrets.

Pure: what a reference leads to comes in. A row whose references lead nowhere is out of service, and listed as rejected
(design 7). A resolved key hash changes the name of its row, so names and contests are told anew here.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeAlias

from aisix_common.resources import BY_NAME, KINDS, Kind, Rejected

from .hashes import differs
from .sharded import NOTHING, Editor, Sharded, differing
from .table_draft import TableDraft
from .tables import Entry, RejectedRow, Snapshot, Table, Touched, empty

Replace: TypeAlias = Callable[[Kind[Any], Entry[Any]], Any | Rejected | None]
"""What is served for an entry that holds references: another value, with the secrets in clear; nothing, and why; or,
with None, the entry as it is."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """One kind: its rows, and what is served for them."""

    base: Table[Any]
    derived: Table[Any]
    """`base` itself while no row holds a reference."""
    held: frozenset[str] = frozenset()
    """Ids of rows that hold references."""
    refused: Sharded[RejectedRow] = field(default_factory=lambda: NOTHING)
    """By id: rows that are out of service, because their references lead nowhere."""


class Overlay:
    """Follows the snapshots of one source: ask it for each of them, and whenever a reference leads elsewhere."""

    def __init__(self, prefix: str, kinds: Iterable[Kind[Any]] = KINDS) -> None:
        """`prefix` and `kinds` are those of the snapshots to come."""
        nothing = empty(prefix, kinds)
        self._base = self._derived = nothing
        self._layers = {name: _Layer(table, table) for name, table in nothing.tables.items()}
        self._plain = True
        """No row ever held a reference."""

    def holds(self, kind: str, id: str) -> bool:
        """Whether a row holds references."""
        return id in self._layers[kind].held

    def apply(self, base: Snapshot, replace: Replace, again: Touched, now: datetime) -> Snapshot:
        """`base` as it is served: `replace` is asked for rows with references that are new, changed, or in `again`.

        The result's `touched` says what is served differently from the result before it; None where a new `base` says
        None: compare everything. As long as no row held a reference it is `base` itself. Costs
        what changed. Whatever `replace` raises leaves everything as it was.
        """
        layers = {
            name: self._layer(BY_NAME[name], table, again.get(name, frozenset()), replace, now)
            for name, table in base.tables.items()
        }
        derived = self._told(base, layers, now)
        self._plain = self._plain and not any(layer.held for layer in layers.values())
        self._base, self._derived, self._layers = base, derived, layers
        return derived

    def _layer(
        self, kind: Kind[Any], table: Table[Any], again: frozenset[str], replace: Replace, now: datetime
    ) -> _Layer:
        last = self._layers[kind.name]
        if not len(last.base.by_id):  # a first listing: all of it is new
            changed = {entry.id for entry in table.by_id.values() if entry.unresolved is not None}
            held = frozenset(changed)
        elif changed := differing(last.base.by_id, table.by_id):
            entries = [entry for id in changed if (entry := table.by_id.get(id)) is not None]
            held = (last.held - changed) | {entry.id for entry in entries if entry.unresolved is not None}
        else:
            held = last.held
        if not held:
            return _Layer(table, table)
        todo = changed | (again & held)
        if not todo:
            return last if last.base is table else _Layer(table, last.derived, held, last.refused)
        refused = Editor(last.refused)
        if last.held:
            draft = TableDraft(kind, last.derived)
        else:  # so far the base itself was served
            draft, todo = TableDraft(kind, table), set(held)
        for id in todo:
            entry = table.by_id.get(id)
            outcome = replace(kind, entry) if entry is not None and id in held else None
            if entry is None or isinstance(outcome, Rejected):
                draft.remove(id)
            elif (served := _served(entry, outcome, last.derived.by_id.get(id))) is not draft.by_id.get(id):
                draft.put(served, table.unknown.get(id, ()))
            if entry is not None and isinstance(outcome, Rejected):
                refused.put(id, _refused(kind, entry, outcome, last.refused.get(id), now))
            else:
                refused.drop(id)
        return _Layer(table, draft.finish(), held, refused.done())

    def _told(self, base: Snapshot, layers: Mapping[str, _Layer], now: datetime) -> Snapshot:
        plain = self._plain and not any(layer.held for layer in layers.values())
        if plain and (base.touched is None or self._base.apply_seq == 0):  # all of it is new: nothing to compare
            return base
        touched: dict[str, frozenset[str]] = {}
        changed = self._derived.apply_seq == 0 and base.apply_seq > 0
        for name, layer in layers.items():
            before, after = self._layers[name], layer
            ids = differing(before.derived.by_id, after.derived.by_id)
            changed = changed or any(_says_otherwise(name, id, before, after) for id in ids)
            ids |= _renamed(before.derived, after.derived)
            if ids:
                touched[name] = frozenset(ids)
        whole = base.touched is None and base is not self._base
        if whole:  # of a file whose hash is told, the number moves with it
            changed = changed or base.apply_seq > self._base.apply_seq
        if plain:  # some snapshots may have been left out in between
            return (
                base if base.touched is not None and _within(touched, base.touched) else replace(base, touched=touched)
            )
        return Snapshot(
            prefix=base.prefix,
            revision=base.revision,
            tables={name: layer.derived for name, layer in layers.items()},
            rejected=self._rejected(base, layers),
            apply_seq=self._derived.apply_seq + changed,
            applied_at=now if changed else self._derived.applied_at,
            touched=None if whole else touched,
        )

    def _rejected(self, base: Snapshot, layers: Mapping[str, _Layer]) -> Sharded[RejectedRow]:
        """What is out of service: the rows that `base` rejects, and those whose references lead nowhere."""
        rejected, prefix = Editor(self._derived.rejected), base.prefix + "/"
        changed = {
            f"{prefix}{name}/{id}": layer.refused.get(id)
            for name, layer in layers.items()
            for id in differing(self._layers[name].refused, layer.refused)
        }
        for key in differing(self._base.rejected, base.rejected) - changed.keys():
            name, _, id = key.removeprefix(prefix).partition("/")
            changed[key] = layers[name].refused.get(id) if name in layers else None
        for key, row in changed.items():
            known = base.rejected.get(key)
            if (said := known if row is None else row if known is None else _worse(known, row)) is None:
                rejected.drop(key)
            else:
                rejected.put(key, said)
        return rejected.done()


def _served(entry: Entry[Any], value: Any, before: Entry[Any] | None) -> Entry[Any]:
    """What is served for `entry`: the very object that was served `before`, if that says the same."""
    if value is None:
        return entry
    made = Entry(entry.id, value, entry.revision, entry.create_revision, entry.raw, entry.unresolved)
    return before if before == made else made


def _refused(
    kind: Kind[Any], entry: Entry[Any], why: Rejected, before: RejectedRow | None, now: datetime
) -> RejectedRow:
    return RejectedRow(
        kind=kind.name,
        id=entry.id,
        failure=why.failure,
        message=why.message,
        first_seen=before.first_seen if before else now,
        last_seen=now,
        stale_since=None,
        revision=entry.revision,
        create_revision=entry.create_revision,
        raw=entry.raw,
    )


def _worse(known: RejectedRow, row: RejectedRow) -> RejectedRow:
    """A bad row whose last good value is out of service as well."""
    return replace(
        known, stale_since=None, message=f"{known.message}; the value before it is not served, either: {row.message}"
    )


def _says_otherwise(kind: str, id: str, before: _Layer, after: _Layer) -> bool:
    """Whether what is served of a row changed in content. Without references the documents tell."""
    old, new = before.derived.by_id.get(id), after.derived.by_id.get(id)
    if old is None or new is None:
        return old is not new
    return differs(kind, old, new) or ((id in before.held or id in after.held) and old.value != new.value)


def _renamed(before: Table[Any], after: Table[Any]) -> set[str]:
    """Ids of rows that have a name now which they had not, or had one."""
    names = differing(before.by_name, after.by_name)
    return {entry.id for name in names for table in (before, after) if (entry := table.by_name.get(name)) is not None}


def _within(part: Touched, whole: Touched) -> bool:
    return all(ids <= whole.get(name, frozenset()) for name, ids in part.items())
