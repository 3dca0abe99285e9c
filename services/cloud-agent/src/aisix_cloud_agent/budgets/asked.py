"""Which caller keys are in use, by what the proxies say under `<run root>/budgets/asked/`. Pure.

A row is one instance's share of one shard; it goes with the instance's lease. A key is in use while one row names it.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from aisix_common.managed.budgets import MOST_KEYS, Asked
from aisix_common.store.types import Changes, Deleted, KeyValue, Listing, WatchEvent

MOST_ID: Final = 512
"""Characters of an API key's id; a longer one is none of ours."""


class AskedKeys:
    """Fed with what is watched."""

    def __init__(self, most: int = MOST_KEYS) -> None:
        self._most = most
        self._rows: dict[str, tuple[str, ...]] = {}
        self._named: dict[str, int] = {}
        """By how many rows each key is named."""
        self._in_use: dict[str, None] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._in_use

    def __len__(self) -> int:
        return len(self._in_use)

    @property
    def beyond(self) -> int:
        """Keys in use that are not asked for, as there are more than MOST_KEYS."""
        return len(self._named) - len(self._in_use)

    def apply(self, event: WatchEvent) -> Sequence[str]:
        """Take up what was seen; the keys that are in use since now, in the order they came."""
        match event:
            case Listing(rows):
                there = {row.key for row in rows}
                for key in self._rows.keys() - there:
                    self._replace(key, ())
                changes: Sequence[KeyValue | Deleted] = rows
            case Changes(events):
                changes = events
            case _:
                return ()
        came: dict[str, None] = {}
        for change in changes:
            for key in self._replace(change.key, _keys(change)):
                came[key] = None
        if self.beyond and len(self._in_use) < self._most:
            for key in [key for key in self._named if key not in self._in_use][: self._most - len(self._in_use)]:
                self._in_use[key] = came[key] = None
        return [key for key in came if key in self._in_use]

    def _replace(self, row: str, keys: tuple[str, ...]) -> list[str]:
        """A row names these keys now; those that are in use since then."""
        before = self._rows.pop(row, ())
        if keys:
            self._rows[row] = keys
        came = []
        for key in keys:
            self._named[key] = self._named.get(key, 0) + 1
            if key not in self._in_use and len(self._in_use) < self._most:
                self._in_use[key] = None
                came.append(key)
        for key in before:
            self._named[key] -= 1
            if not self._named[key]:
                del self._named[key]
                self._in_use.pop(key, None)
        return came


def _keys(change: KeyValue | Deleted) -> tuple[str, ...]:
    """The keys that a row names, each once; a damaged row names none."""
    if isinstance(change, Deleted):
        return ()
    try:
        asked = msgspec.json.decode(change.value, type=Asked)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ()
    return tuple(dict.fromkeys(key for key in asked.keys if 0 < len(key) <= MOST_ID))[:MOST_KEYS]
