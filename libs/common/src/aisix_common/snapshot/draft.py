"""A snapshot in the making: the one mutable thing here, never seen outside of this package.

What does not change is shared with the snapshot it follows (see `sharded`).
"""

from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec

from aisix_common.resources import BY_NAME, Loaded, Rejected
from aisix_common.secrets.envelope import Keyring
from aisix_common.store.types import KeyValue

from .hashes import differs
from .opening import holds_references, may_be_sealed, read_row
from .sharded import Editor, differing, sharing
from .table_draft import TableDraft
from .tables import Entry, RejectedRow, Snapshot, Table, empty

_BAD_KEY = Rejected("bad_key", "the key is not <prefix>/<kind>/<id>: delete it, or move it out of the prefix")
_UNKNOWN_KIND = Rejected("unknown_kind", "no kind of resource has this name: check the key's spelling and the prefix")
_NON_JSON = Rejected("non_json", "value is not valid JSON in UTF-8")


class Draft:
    """See the module. Feed it with `put` and `delete`, then `finish` once."""

    def __init__(self, start: Snapshot, previous: Snapshot, now: datetime, keyring: Keyring) -> None:
        self.previous = previous
        """What a last good value is taken from, and what the result is compared with."""
        self.fresh = start is not previous
        self.now = now
        self.keyring = keyring
        self.prefix = previous.prefix + "/"
        self.tables = {name: TableDraft(BY_NAME[name], table) for name, table in start.tables.items()}
        self.rejected = Editor(start.rejected)
        self.content_changed = False

    @classmethod
    def anew(cls, previous: Snapshot, now: datetime, keyring: Keyring) -> "Draft":
        """Start from nothing, with `previous` to fall back on: the kinds are its kinds."""
        return cls(empty(previous.prefix, [BY_NAME[name] for name in previous.tables]), previous, now, keyring)

    @classmethod
    def following(cls, previous: Snapshot, now: datetime, keyring: Keyring) -> "Draft":
        """Start from `previous`."""
        return cls(previous, previous, now, keyring)

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

    def reopen(self) -> None:
        """Try every sealed row of the source again, as it stands there, because the keyring is another one."""
        before = self.previous
        for kind_name, table in before.tables.items():
            for entry in table.by_id.values():
                if may_be_sealed(entry.raw) and (key := f"{self.prefix}{kind_name}/{entry.id}") not in before.rejected:
                    row = KeyValue(key, entry.raw, entry.create_revision, entry.revision)
                    self._read(self.tables[kind_name], row, entry.id, entry)
        for key, bad in before.rejected.items():
            if may_be_sealed(bad.raw):
                self.put(KeyValue(key, bad.raw, bad.create_revision, bad.revision))

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

    def _put(self, draft: TableDraft, row: KeyValue, row_id: str) -> None:
        good = self.previous.tables[draft.kind.name].by_id.get(row_id) if self.fresh else draft.by_id.get(row_id)
        if good is not None and _same(good, row) and self._rejected_before(row.key) is None:
            return self._keep(draft, good)
        return self._read(draft, row, row_id, good)

    def _read(self, draft: TableDraft, row: KeyValue, row_id: str, good: Entry[Any] | None) -> None:
        outcome = read_row(draft.kind, row_id, row.value, self.keyring)
        if isinstance(outcome, Loaded):
            self.rejected.drop(row.key)
            if good is not None and _same(good, row):
                return self._keep(draft, good)
            unresolved = outcome.value if holds_references(draft.kind, row.value, outcome.value) else None
            entry = Entry(row_id, outcome.value, row.mod_revision, row.create_revision, row.value, unresolved)
            draft.put(entry, outcome.unknown)
            self.content_changed |= good is None or differs(draft.kind.name, good, entry, self.keyring)
            return None
        if good is not None and good.create_revision == row.create_revision:
            self._keep(draft, good)
            return self._reject(row, draft.kind.name, row_id, outcome, stale=True)
        if good is not None:  # deleted and created anew in between: a deleted row must not live on
            draft.remove(row_id)
            self.content_changed = True
        return self._reject(row, draft.kind.name, row_id, outcome)

    def _keep(self, draft: TableDraft, good: Entry[Any]) -> None:
        """Take a row over from the previous snapshot (when following it, the row is there already)."""
        if self.fresh:
            draft.put(good, self.previous.tables[draft.kind.name].unknown.get(good.id, ()))

    def _reject(self, row: KeyValue, kind_name: str, row_id: str, why: Rejected, *, stale: bool = False) -> None:
        before = self._rejected_before(row.key)
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

    def _rejected_before(self, key: str) -> RejectedRow | None:
        return self.previous.rejected.get(key) if self.fresh else self.rejected.get(key)

    def _touched(self) -> dict[str, frozenset[str]]:
        return {name: frozenset(draft.touched) for name, draft in self.tables.items() if draft.touched}

    def _compared(self, tables: dict[str, Table[Any]]) -> dict[str, frozenset[str]]:
        """What differs between two full sets, by identity: rows that were taken over are the same objects.

        What does not differ is taken from before, so that the next to look, on the event loop, has little to compare.
        """
        touched: dict[str, frozenset[str]] = {}
        for name, anew in tables.items():
            before = self.previous.tables[name]
            by_id, by_name = sharing(before.by_id, anew.by_id), sharing(before.by_name, anew.by_name)
            ids = differing(before.by_id, by_id)
            if not ids:
                tables[name] = before
                continue
            tables[name] = table = replace(anew, by_id=by_id, by_name=by_name)
            self.content_changed |= any(each not in table.by_id for each in ids)
            for contest in (before, table):
                ids.update(*contest.contested.values())
            touched[name] = frozenset(ids)
        return touched


def _same(good: Entry[Any], row: KeyValue) -> bool:
    """Whether what is served was read from this very row."""
    return good.revision == row.mod_revision and good.raw == row.value


def _is_json(raw: bytes) -> bool:
    try:
        msgspec.json.decode(raw, type=msgspec.Raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return True
