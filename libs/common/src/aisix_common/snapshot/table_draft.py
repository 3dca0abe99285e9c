"""The rows of one kind in the making, with their names kept true at every step.

What does not change is shared with the table it follows (see `sharded`).
"""

from typing import Any

from aisix_common.resources import Kind

from .sharded import Editor
from .tables import Entry, Table


class TableDraft:
    """See the module. Feed it with `put` and `remove`, then `finish` once."""

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
