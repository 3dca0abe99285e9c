"""The rows of decisions: what lies in them, what has to be written, and when. Pure; time comes in as an argument.

A new key, and one whose `allow` or `fail_mode` is another, is urgent. Numbers are not, and cost etcd what they weigh:
so many bytes a second in all (NUMBERS_BYTES), at most once a second a row. What stays the same is written anew now and
then, as a decision shows by `at` how old it is.
"""

import heapq
import math
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from aisix_common.managed.budgets import (
    MOST_KEYS,
    REFRESH_SECONDS,
    SHARDS,
    Budget,
    Decided,
    Decision,
    Denial,
    decided_key,
    shard_of,
)
from aisix_common.store.types import Delete, KeyValue, Put

KEEP_SECONDS: Final = 3600.0
"""A decision on a key that is not in use is kept that long where there is room."""
NUMBERS_SECONDS: Final = 1.0
NUMBERS_BYTES: Final = 256 * 1024
"""Of rows with nothing but changed numbers, a second: etcd keeps each version until it is compacted."""
_TOGETHER: Final = 0.5
"""Seconds: numbers of all rows are written at multiples of it, so that they share transactions."""
_ROOM: Final = 100
"""Keys that make room at once: finding them is a walk through all."""
_DRIFT: Final = 2.0
"""Seconds by which a moment that is given as "in so many seconds" may seem to move."""


@dataclass(slots=True)
class _Known:
    decision: Decision
    used: float
    written: Decision | None = None
    """As it lies in etcd."""


@dataclass(slots=True)
class _Shard:
    keys: dict[str, _Known] = field(default_factory=dict)
    urgent: bool = False
    numbers: bool = False
    """Something is not as it lies in etcd."""
    fresh: bool = False
    """Only `at` is not."""
    written_at: float = float("-inf")
    size: int = 0


class DecidedRows:
    """All decisions that are known."""

    def __init__(self, in_use: Container[str], most: int = MOST_KEYS) -> None:
        """`in_use`: the keys that are in use, whenever one looks."""
        self._in_use = in_use
        self._most = most
        self._shards = [_Shard() for _ in range(SHARDS)]
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def get(self, key: str) -> Decision | None:
        """The decision on a key."""
        known = self._shards[shard_of(key)].keys.get(key)
        return known.decision if known is not None else None

    def load(self, run_root: str, row: KeyValue, now: float) -> None:
        """A row that another agent wrote, or this one in an earlier life. A damaged one is written anew in time."""
        shard = next((n for n in range(SHARDS) if decided_key(run_root, n) == row.key), None)
        if shard is None:
            return
        try:
            decided: Mapping[str, Decision] = msgspec.json.decode(row.value, type=Decided).keys
        except (msgspec.MsgspecError, ValueError, RecursionError):
            decided = {}
        there = self._shards[shard]
        for key, decision in decided.items():
            if shard_of(key) == shard and self._count < self._most and key not in there.keys:
                there.keys[key] = _Known(decision, now, decision)
                self._count += 1
        there.written_at, there.size = now, len(row.value)
        there.numbers = len(there.keys) != len(decided) or not decided

    def put(self, key: str, decision: Decision, now: float) -> None:
        """What the Cloud said just now."""
        shard = self._shards[shard_of(key)]
        known = shard.keys.get(key)
        if known is None:
            if self._count >= self._most:
                self._make_room()
            shard.keys[key] = _Known(decision, now)
            self._count += 1
            shard.urgent = True
            return
        known.decision, known.used = decision, now
        written = known.written
        if written is None or (written.allow, written.fail_mode) != (decision.allow, decision.fail_mode):
            shard.urgent = True
        elif not same(written, decision):
            shard.numbers = True
        elif written.at != decision.at:
            shard.fresh = True

    def tidy(self, now: float) -> None:
        """Forget the keys that have not been in use for KEEP_SECONDS. To be called every minute or so."""
        for shard in self._shards:
            for key, known in list(shard.keys.items()):
                if key in self._in_use:
                    known.used = now
                elif now - known.used > KEEP_SECONDS:
                    self._drop(shard, key)

    def due(self, now: float) -> list[int]:
        """The shards whose rows are to be written now."""
        numbers = self._numbers_seconds()
        return [n for n, shard in enumerate(self._shards) if now >= _due_at(shard, numbers)]

    def next_due(self) -> float:
        """When a shard is due next; infinite: none."""
        numbers = self._numbers_seconds()
        return min(_due_at(shard, numbers) for shard in self._shards)

    def transactions(
        self, run_root: str, shards: list[int], most_bytes: int
    ) -> Iterator[tuple[list[Put | Delete], "Written"]]:
        """The rows of these shards as operations, in parts of `most_bytes` at most (or one row); `written` is to be
        called with what was committed."""
        operations: list[Put | Delete] = []
        written = Written()
        for number in shards:
            shard = self._shards[number]
            decisions = {key: known.decision for key, known in shard.keys.items()}
            value = msgspec.json.encode(Decided(decisions)) if decisions else b""
            if operations and written.size + len(value) > most_bytes:
                yield operations, written
                operations, written = [], Written()
            row = decided_key(run_root, number)
            operations.append(Put(row, value) if decisions else Delete(row))
            written.shards[number] = (decisions, len(value))
        if operations:
            yield operations, written

    def written(self, written: "Written", now: float) -> None:
        """That was committed."""
        for number, (decisions, size) in written.shards.items():
            shard = self._shards[number]
            shard.urgent = shard.numbers = shard.fresh = False
            shard.written_at, shard.size = now, size
            for key, known in shard.keys.items():
                known.written = decisions.get(key)
                if known.written is not known.decision:
                    self.put(key, known.decision, known.used)  # came while it was written
            shard.numbers |= any(key not in shard.keys for key in decisions)

    def _numbers_seconds(self) -> float:
        """Between two writes of a row for the sake of numbers."""
        weight = sum(shard.size for shard in self._shards) / NUMBERS_BYTES
        return min(max(NUMBERS_SECONDS, weight), REFRESH_SECONDS)

    def _make_room(self) -> None:
        """Forget some of the keys that were not in use for longest; one that is in use only where all are."""
        known = [(known.used, n, key) for n, shard in enumerate(self._shards) for key, known in shard.keys.items()]
        idle = [each for each in known if each[2] not in self._in_use]
        for _, number, key in heapq.nsmallest(_ROOM, idle) or [min(known)]:
            self._drop(self._shards[number], key)

    def _drop(self, shard: _Shard, key: str) -> None:
        del shard.keys[key]
        self._count -= 1
        shard.numbers = True


@dataclass(slots=True)
class Written:
    """What a transaction says: by shard the decisions, and the bytes of the row."""

    shards: dict[int, tuple[dict[str, Decision], int]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(size for _, size in self.shards.values())


def same(one: Decision, other: Decision) -> bool:
    """Whether two decisions say the same, but for when they were made, and for seconds that only count down."""
    if (one.allow, one.fail_mode, *_said(one)) != (other.allow, other.fail_mode, *_said(other)):
        return False
    passed = other.at - one.at
    pairs = zip(_countdowns(one), _countdowns(other), strict=True)
    return all(_counted_down(before, now, passed) for before, now in pairs)


def _said(decision: Decision) -> tuple[Denial | None, Budget | None]:
    denial, budget = decision.denial, decision.budget
    return (
        None if denial is None else msgspec.structs.replace(denial, retry_after_seconds=None),
        None if budget is None else msgspec.structs.replace(budget, reset_seconds=None),
    )


def _countdowns(decision: Decision) -> tuple[float | None, float | None]:
    denial, budget = decision.denial, decision.budget
    return (
        None if denial is None else denial.retry_after_seconds,
        None if budget is None else budget.reset_seconds,
    )


def _counted_down(before: float | None, now: float | None, passed: float) -> bool:
    if before is None or now is None:
        return before is now
    return before == now or abs(before - passed - now) <= _DRIFT


def _due_at(shard: _Shard, numbers_seconds: float) -> float:
    if shard.urgent or (shard.numbers and shard.written_at == float("-inf")):
        return float("-inf")
    if shard.numbers:
        return math.ceil((shard.written_at + numbers_seconds) / _TOGETHER) * _TOGETHER
    return shard.written_at + REFRESH_SECONDS if shard.fresh else float("inf")
