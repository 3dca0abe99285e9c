"""Which names are taken, per kind: what uniqueness is decided on, without reading a whole kind for every write.

Pure: fed with watch events, asked by `store.py`. A name found here is a hint that the store confirms with a read; a
name *not* found is trusted only together with the revision up to which the index is complete, compared in the
transaction.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from aisix_common.store.types import Alive, Changes, Deleted, KeyValue, Listing, WatchEvent


class Names:
    """Names of one kind: id -> (name, mod_revision), and back."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[str | None, int]] = {}
        self._holders: dict[str, set[str]] = {}
        self.complete_to = 0
        """The revision up to which every write of this kind is in here."""

    def holders(self, name: str) -> frozenset[str]:
        """The ids whose last known document has this name."""
        return frozenset(self._holders.get(name, ()))

    def put(self, id: str, name: str | None, revision: int) -> None:
        """A row was written at `revision`. Older news than what is known is ignored."""
        known = self._rows.get(id)
        if known is not None and known[1] >= revision:
            return
        self._forget(id)
        self._rows[id] = (name, revision)
        if name is not None:
            self._holders.setdefault(name, set()).add(id)

    def delete(self, id: str, revision: int) -> None:
        """A row was deleted at `revision`."""
        known = self._rows.get(id)
        if known is not None and known[1] < revision:
            self._forget(id)

    def _forget(self, id: str) -> None:
        name, _ = self._rows.pop(id, (None, 0))
        if name is not None:
            holders = self._holders[name]
            holders.discard(id)
            if not holders:
                del self._holders[name]


class NameIndex:
    """The names of every kind under one resource root.

    `name_of(kind, value)` gives the name in a stored document, or None where it has none; it must not raise.
    """

    def __init__(self, root: str, kinds: Iterable[str], name_of: Callable[[str, bytes], str | None]) -> None:
        self._root: Final = root.rstrip("/") + "/"
        self.kinds: Final = tuple(kinds)
        self.name_of = name_of
        self._names: dict[str, Names] = {kind: Names() for kind in self.kinds}
        self.listings = 0
        """How many whole lists were seen since the start; each after the first: the watch had to begin anew."""
        self.revision = 0
        """The etcd revision up to which everything was delivered."""

    @property
    def listed(self) -> bool:
        """Whether a whole list was seen since the start."""
        return self.listings > 0

    def of(self, kind: str) -> Names:
        """The names of one kind. KeyError for a kind that is not indexed."""
        return self._names[kind]

    def apply(self, event: WatchEvent) -> None:
        """Take in what the watcher delivered."""
        if isinstance(event, Listing):
            # A list replaces everything, also what is newer here: etcd may have been restored from an older backup.
            self._names = {kind: Names() for kind in self.kinds}
            for row in event.rows:
                self._put(row)
            self.listings += 1
            self._complete(event.revision, restart=True)
        elif isinstance(event, Changes):
            for change in event.events:
                if isinstance(change, Deleted):
                    self._delete(change)
                else:
                    self._put(change)
            self._complete(event.revision)
        elif isinstance(event, Alive):
            self._complete(event.revision)

    def _complete(self, revision: int, *, restart: bool = False) -> None:
        self.revision = revision if restart else max(self.revision, revision)
        for names in self._names.values():
            names.complete_to = revision if restart else max(names.complete_to, revision)

    def _put(self, row: KeyValue) -> None:
        place = self._place(row.key)
        if place is not None:
            kind, id = place
            self._names[kind].put(id, self.name_of(kind, row.value), row.mod_revision)

    def _delete(self, row: Deleted) -> None:
        place = self._place(row.key)
        if place is not None:
            kind, id = place
            self._names[kind].delete(id, row.mod_revision)

    def _place(self, key: str) -> tuple[str, str] | None:
        if not key.startswith(self._root):
            return None
        kind, _, id = key[len(self._root) :].partition("/")
        return (kind, id) if id and kind in self._names else None


class NameReader:
    """Reads a kind's name out of stored bytes, looking at that one field only."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = dict(fields)

    def __call__(self, kind: str, value: bytes) -> str | None:
        """The name, or None: no such field, no string, no JSON."""
        try:
            document = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        name = document.get(self._fields[kind]) if isinstance(document, dict) else None
        return name if isinstance(name, str) else None
