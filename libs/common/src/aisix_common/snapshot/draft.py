"""A snapshot in the making: the one mutable thing here, never seen outside of `build`, `apply` and `restore`.

What does not change is shared with the snapshot it follows (see `sharded`).
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from aisix_common.resources import BY_NAME, Kind, Loaded, Rejected, read
from aisix_common.store.types import KeyValue

from .hashes import canonical
from .sharded import Editor
from .tables import Entry, RejectedRow, Snapshot, Table, empty

_BAD_KEY = Rejected("bad_key", "the key is not <prefix>/<kind>/<id>: delete it, or move it out of the prefix")
_UNKNOWN_KIND = Rejected("unknown_kind", "no kind of resource has this name: check the key's spelling and the prefix")
_NON_JSON = Rejected("non_json", "value is not valid JSON in UTF-8")


class _TableDraft:
    """One kind's rows, with their names kept true at every step."""

    def __init__(self, kind: Kind[Any], table: Table[Any]) -> None:
        self.kind = kind
        self.table = table
        self.by_id = Editor(table.by_id)
        self.by_name = Editor(table.by_name)
        self.contested = Editor(table.contested)
        self.unknown = Editor(table.unknown)
        self.touched: set[str] = set()

    def put(self, entry: Entry[Any], unknown: tuple[str, ...]) -> None:
        name = self.kind.name_of(entry.value)
        old = self.by_id.get(entry.id)
        if old is not None and (old_name := self.kind.name_of(old.value)) != name and old_name is not None:
            self._release(old_name, entry.id)
        self.by_id.put(entry.id, entry)
        if name is not None:
            self._claim(name, entry)
        if unknown:
            self.unknown.put(entry.id, unknown)
        else:
            self.unknown.drop(entry.id)
        self.touched.add(entry.id)

    def remove(self, row_id: str) -> None:
        old = self.by_id.get(row_id)
        if old is None:
            return
        self.by_id.drop(row_id)
        if (name := self.kind.name_of(old.value)) is not None:
            self._release(name, row_id)
        self.unknown.drop(row_id)
        self.touched.add(row_id)

    def finish(self) -> Table[Any]:
        """The table, the same object as before when nothing changed."""
        if not self.touched:
            return self.table
        return Table(self.by_id.done(), self.by_name.done(), self.contested.done(), self.unknown.done())

    def _claim(self, name: str, entry: Entry[Any]) -> None:
        holder = self.by_name.get(name)
        rivals = self.contested.get(name)
        if rivals is not None or (holder is not None and holder.id != entry.id):
            self._decide(name, (rivals or frozenset({holder.id} if holder else ())) | {entry.id})
        else:
            self.by_name.put(name, entry)

    def _release(self, name: str, row_id: str) -> None:
        rivals = self.contested.get(name)
        if rivals is None:
            self.by_name.drop(name)
        else:
            self._decide(name, rivals - {row_id})

    def _decide(self, name: str, rivals: frozenset[str]) -> None:
        """The row created first has the name; where that is equal (one transaction), the lower id."""
        entries = [entry for each in rivals if (entry := self.by_id.get(each)) is not None]
        winner = min(entries, key=lambda entry: (entry.create_revision, entry.id))
        self.by_name.put(name, winner)
        self.touched.add(winner.id)
        if len(rivals) > 1:
            self.contested.put(name, rivals)
        else:
            self.contested.drop(name)


class Draft:
    """See the module. Feed it with `put` and `delete`, then `finish` once."""

    def __init__(self, start: Snapshot, previous: Snapshot, now: datetime) -> None:
        self.previous = previous
        """What a last good value is taken from, and what the result is compared with."""
        self.fresh = start is not previous
        self.now = now
        self.prefix = previous.prefix + "/"
        self.tables = {name: _TableDraft(BY_NAME[name], table) for name, table in start.tables.items()}
        self.rejected = Editor(start.rejected)
        self.content_changed = False

    @classmethod
    def anew(cls, previous: Snapshot, now: datetime) -> "Draft":
        """Start from nothing, with `previous` to fall back on."""
        return cls(empty(previous.prefix), previous, now)

    @classmethod
    def following(cls, previous: Snapshot, now: datetime) -> "Draft":
        """Start from `previous`."""
        return cls(previous, previous, now)

    def put(self, row: KeyValue) -> None:
        """A row as it stands in the source now."""
        kind_name, row_id = self._parsed(row.key)
        if not kind_name:
            return self._reject(row, "", "", _BAD_KEY)
        draft = self.tables.get(kind_name)
        if draft is None:
            return self._reject(row, kind_name, row_id, _UNKNOWN_KIND if _is_json(row.value) else _NON_JSON)
        return self._put(draft, row, row_id)

    def delete(self, key: str) -> None:
        """A row that is gone, with whatever was served for it."""
        self.rejected.drop(key)
        kind_name, row_id = self._parsed(key)
        draft = self.tables.get(kind_name)
        if draft is not None and row_id in draft.by_id:
            self.content_changed = True
            draft.remove(row_id)

    def finish(self, revision: int) -> Snapshot:
        """The snapshot. The draft must not be used afterwards."""
        tables = {name: draft.finish() for name, draft in self.tables.items()}
        touched = self._compared(tables) if self.fresh else self._touched()
        previous = self.previous
        changed = self.content_changed or previous.apply_seq == 0
        return Snapshot(
            prefix=previous.prefix,
            revision=revision,
            tables=tables,
            rejected=self.rejected.done(),
            apply_seq=previous.apply_seq + changed,
            applied_at=self.now if changed else previous.applied_at,
            touched=touched,
        )

    def _parsed(self, key: str) -> tuple[str, str]:
        """(kind, id); both empty for a key that is none of ours. An id may hold slashes."""
        if not key.startswith(self.prefix):
            return "", ""
        kind_name, _, row_id = key[len(self.prefix) :].partition("/")
        return (kind_name, row_id) if kind_name and row_id else ("", "")

    def _put(self, draft: _TableDraft, row: KeyValue, row_id: str) -> None:
        good = self.previous.tables[draft.kind.name].by_id.get(row_id) if self.fresh else draft.by_id.get(row_id)
        if good is not None and good.revision == row.mod_revision and good.raw == row.value:
            return self._keep(draft, good)
        outcome = read(draft.kind, row.value)
        if isinstance(outcome, Loaded):
            entry = Entry(row_id, outcome.value, row.mod_revision, row.create_revision, row.value)
            draft.put(entry, outcome.unknown)
            self.rejected.drop(row.key)
            self.content_changed |= good is None or _differs(good.raw, row.value)
            return None
        if good is not None and good.create_revision == row.create_revision:
            self._keep(draft, good)
            return self._reject(row, draft.kind.name, row_id, outcome, stale=True)
        if good is not None:  # deleted and created anew in between: a deleted row must not live on
            draft.remove(row_id)
            self.content_changed = True
        return self._reject(row, draft.kind.name, row_id, outcome)

    def _keep(self, draft: _TableDraft, good: Entry[Any]) -> None:
        """Take a row over from the previous snapshot (when following it, the row is there already)."""
        if self.fresh:
            draft.put(good, self.previous.tables[draft.kind.name].unknown.get(good.id, ()))

    def _reject(self, row: KeyValue, kind_name: str, row_id: str, why: Rejected, *, stale: bool = False) -> None:
        before = self.previous.rejected.get(row.key) if self.fresh else self.rejected.get(row.key)
        stale_since = (before and before.stale_since) or self.now if stale else None
        rejected = RejectedRow(
            kind=kind_name,
            id=row_id,
            failure=why.failure,
            message=why.message,
            first_seen=before.first_seen if before else self.now,
            last_seen=self.now,
            stale_since=stale_since,
            revision=row.mod_revision,
            create_revision=row.create_revision,
            raw=row.value,
        )
        self.rejected.put(row.key, rejected)

    def _touched(self) -> dict[str, frozenset[str]]:
        return {name: frozenset(draft.touched) for name, draft in self.tables.items() if draft.touched}

    def _compared(self, tables: Mapping[str, Table[Any]]) -> dict[str, frozenset[str]]:
        """What differs between two full sets, by identity: rows that were taken over are the same objects."""
        touched: dict[str, frozenset[str]] = {}
        for name, table in tables.items():
            before = self.previous.tables[name]
            gone = before.by_id.keys() - table.by_id.keys()
            self.content_changed |= bool(gone)
            ids = {each for each, entry in table.by_id.items() if before.by_id.get(each) is not entry}
            for contest in (before, table):
                ids.update(*contest.contested.values())
            if ids or gone:
                touched[name] = frozenset(ids | gone)
        return touched


def _differs(old: bytes, new: bytes) -> bool:
    return old != new and canonical(old) != canonical(new)


def _is_json(raw: bytes) -> bool:
    try:
        msgspec.json.decode(raw, type=msgspec.Raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return True
