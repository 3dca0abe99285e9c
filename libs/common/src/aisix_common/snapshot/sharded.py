"""Large immutable maps of which a changed copy is cheap: a dict in shards, of which a change copies one.

Copying a plain dict of 50,000 rows touches 100,000 objects and takes up to 5 ms, which is the whole time a change may
hold the event loop (design 10); here it is the list of shards and one shard of about fifty rows.
"""

from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from itertools import chain
from operator import is_
from typing import Any, Final, Generic, TypeVar

Value = TypeVar("Value")

SMALL: Final = 1024
"""Up to this many items one dict is fine; with more there are as many shards as this."""


class Sharded(Mapping[str, Value]):
    """An immutable map with text keys, in no particular order. Changed copies come from an `Editor`."""

    __slots__ = ("_length", "_mask", "_shards")

    def __init__(self, shards: list[dict[str, Value]], length: int) -> None:
        self._shards = shards
        self._mask = len(shards) - 1
        self._length = length

    def __getitem__(self, key: str) -> Value:
        return self._shards[hash(key) & self._mask][key]

    def get(self, key: str, default: Any = None) -> Any:
        """As of every mapping; said here because the mixin's way over exceptions is slow."""
        return self._shards[hash(key) & self._mask].get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._shards[hash(key) & self._mask]

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self._shards)

    def __len__(self) -> int:
        return self._length

    def items(self) -> ItemsView[str, Value]:
        return _Items(self)

    def values(self) -> ValuesView[Value]:
        return _Values(self)

    def shards(self) -> list[dict[str, Value]]:
        """The shards themselves: not to be changed by anybody."""
        return self._shards


class _Items(ItemsView[str, Value]):
    _mapping: Sharded[Value]

    def __iter__(self) -> Iterator[tuple[str, Value]]:
        return chain.from_iterable(shard.items() for shard in self._mapping.shards())


class _Values(ValuesView[Value]):
    _mapping: Sharded[Value]

    def __iter__(self) -> Iterator[Value]:
        return chain.from_iterable(shard.values() for shard in self._mapping.shards())


NOTHING: Final[Sharded[Any]] = Sharded([{}], 0)


def differing(old: Sharded[Value], new: Sharded[Value]) -> set[str]:
    """The keys that stand for another object in `new`, or are in one of them only. Shards that both have cost nothing,
    so a map is compared with its changed copy in no time."""
    found: set[str] = set()
    if old is new:
        return found
    if len(old.shards()) != len(new.shards()):
        pairs = [(dict(old.items()), dict(new.items()))]
    else:
        pairs = list(zip(old.shards(), new.shards(), strict=True))
    for before, after in pairs:
        if before is not after:
            found.update(key for key, value in after.items() if before.get(key) is not value)
            found.update(before.keys() - after.keys())
    return found


def sharing(old: Sharded[Value], new: Sharded[Value]) -> Sharded[Value]:
    """`new`, with the shards of `old` wherever both hold the same objects: comparing the two costs nothing then, though
    all of `new` was made anew."""
    if old is new or len(old.shards()) != len(new.shards()):
        return new
    pairs = zip(old.shards(), new.shards(), strict=True)
    return Sharded([before if _alike(before, after) else after for before, after in pairs], len(new))


def _alike(one: dict[str, Value], other: dict[str, Value]) -> bool:
    return len(one) == len(other) and all(map(is_, map(one.get, other), other.values()))


class Editor(Generic[Value]):
    """A changed copy in the making. Reads see the changes made so far; `done` gives the map."""

    __slots__ = ("_length", "_mask", "_owned", "_shards", "_start")

    def __init__(self, start: Sharded[Value] = NOTHING) -> None:
        self._start = start
        self._shards = start.shards()
        self._mask = len(self._shards) - 1
        self._length = len(start)
        self._owned: set[int] = set()

    def get(self, key: str) -> Value | None:
        """What the key stands for now."""
        return self._shards[hash(key) & self._mask].get(key)

    def __contains__(self, key: str) -> bool:
        return key in self._shards[hash(key) & self._mask]

    def __len__(self) -> int:
        return self._length

    def put(self, key: str, value: Value) -> None:
        """Set a key."""
        shard = self._writable(key)
        self._length += key not in shard
        shard[key] = value
        if self._mask == 0 and self._length > SMALL:
            self._split()

    def drop(self, key: str) -> None:
        """Without `key`, whether it was there or not."""
        if key in self:
            del self._writable(key)[key]
            self._length -= 1

    def done(self) -> Sharded[Value]:
        """The map; the very one it began with if nothing was changed. The editor must not be used afterwards."""
        return Sharded(self._shards, self._length) if self._owned else self._start

    def _writable(self, key: str) -> dict[str, Value]:
        place = hash(key) & self._mask
        if place not in self._owned:
            if not self._owned:
                self._shards = list(self._shards)
            self._owned.add(place)
            self._shards[place] = dict(self._shards[place])
        return self._shards[place]

    def _split(self) -> None:
        everything = self._shards[0]
        self._shards = [{} for _ in range(SMALL)]
        self._mask = SMALL - 1
        self._owned = set(range(SMALL))
        for key, value in everything.items():
            self._shards[hash(key) & self._mask][key] = value
