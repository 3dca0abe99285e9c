"""Which key is asked for next, and when. Pure; time comes in as an argument.

A key in use is asked for every FRESH_SECONDS and no more often, less often while its answers are none. Keys that were
never asked for come first, then those without a decision, then all others, the longest due first.
"""

import heapq
from collections.abc import Callable, Container, Iterable
from typing import Final

from aisix_common.managed.budgets import FRESH_SECONDS

LONGEST_SECONDS: Final = 60.0
"""Between two tries of a key whose answers are none."""


class BudgetSchedule:
    """`in_use` and `decided`: which keys are in use, and which have a decision, whenever one looks."""

    def __init__(self, in_use: Container[str], decided: Callable[[str], bool]) -> None:
        self._in_use = in_use
        self._decided = decided
        self._first: dict[str, None] = {}
        """Keys that were not asked for lately, in the order they came."""
        self._lanes: tuple[list[tuple[float, str]], list[tuple[float, str]]] = ([], [])
        """Heaps of (when due, key): without a decision, with one."""
        self._placed: set[str] = set()
        """Keys that are in a lane, or asked for right now."""
        self._asked: dict[str, float] = {}
        self._failures: dict[str, int] = {}

    def came(self, keys: Iterable[str], now: float) -> None:
        """These keys are in use since now."""
        for key in keys:
            if key in self._placed or key in self._first:
                continue
            if key in self._asked or self._decided(key):
                self._place(key, max(now, self._asked.get(key, now - FRESH_SECONDS) + self._pause(key)))
            else:
                self._first[key] = None

    def next(self, now: float) -> tuple[str, bool] | None:
        """The key to ask for now, and whether it is asked for the first time; None: none is due. It stays until it is
        `take`n."""
        while self._first:
            key = next(iter(self._first))
            if key in self._in_use:
                return key, True
            del self._first[key]
        for lane in self._lanes:
            while lane and lane[0][0] <= now:
                key = lane[0][1]
                if key in self._in_use:
                    return key, False
                heapq.heappop(lane)
                self._placed.discard(key)
        return None

    def take(self, key: str, now: float) -> None:
        """The key that `next` gave is asked for now; `done` must follow."""
        if key in self._first:
            del self._first[key]
        else:
            heapq.heappop(next(lane for lane in self._lanes if lane and lane[0][1] == key))
        self._placed.add(key)
        self._asked[key] = now

    def done(self, key: str, now: float, *, failed: bool) -> None:
        """It was answered, or not."""
        if failed:
            self._failures[key] = self._failures.get(key, 0) + 1
        else:
            self._failures.pop(key, None)
        self._place(key, max(now, self._asked[key] + self._pause(key)))

    def next_due(self) -> float:
        """When a key is due next; infinite: there is none."""
        if self._first:
            return float("-inf")
        return min((lane[0][0] for lane in self._lanes if lane), default=float("inf"))

    def tidy(self, now: float) -> None:
        """Forget the keys that are not in use any more. To be called every minute or so."""
        self._first = {key: None for key in self._first if key in self._in_use}
        for lane in self._lanes:
            gone = {key for _, key in lane if key not in self._in_use}
            if gone:
                self._placed -= gone
                lane[:] = [each for each in lane if each[1] not in gone]
                heapq.heapify(lane)
        for key in [key for key, at in self._asked.items() if key not in self._placed and now - at > LONGEST_SECONDS]:
            del self._asked[key]
            self._failures.pop(key, None)

    def _place(self, key: str, due: float) -> None:
        self._placed.add(key)
        heapq.heappush(self._lanes[self._decided(key)], (due, key))

    def _pause(self, key: str) -> float:
        doublings = max(self._failures.get(key, 0) - 1, 0)
        return min(FRESH_SECONDS * 2.0 ** min(doublings, 10), LONGEST_SECONDS)
