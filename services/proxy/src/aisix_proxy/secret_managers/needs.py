"""Which row needs which references. Pure bookkeeping: what nobody needs is not kept."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from typing import Final, TypeAlias

Row: TypeAlias = tuple[str, str]
"""(kind, id)."""
_NOTHING: Final[frozenset[str]] = frozenset()


class Needs:
    """Rows that hold references, and the references that rows hold."""

    def __init__(self, forget: Callable[[str], None]) -> None:
        """`forget` is told of every reference that no row needs any more."""
        self._forget = forget
        self._rows: dict[Row, frozenset[str]] = {}
        self._users: dict[str, set[Row]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def put(self, row: Row, texts: frozenset[str]) -> None:
        """The row needs these references and no others."""
        before = self._rows.get(row, _NOTHING)
        self._rows[row] = texts
        for text in texts - before:
            self._users.setdefault(text, set()).add(row)
        for text in before - texts:
            users = self._users[text]
            users.discard(row)
            if not users:
                del self._users[text]
                self._forget(text)

    def keep(self, holds: Callable[[str, str], bool], touched: Mapping[str, Set[str]] | None) -> None:
        """Rows for which `holds` is false hold no references any more, or are gone. Only those that were `touched` (ids
        by kind) are asked for; None: all."""
        rows: Iterable[Row] = (
            self._rows if touched is None else ((kind, id) for kind in touched for id in touched[kind])
        )
        for row in [row for row in rows if row in self._rows and not holds(*row)]:
            self.put(row, _NOTHING)
            del self._rows[row]

    def users(self, texts: Iterable[str]) -> list[Row]:
        """The rows that need one of these references."""
        return [row for text in texts for row in self._users.get(text, ())]
