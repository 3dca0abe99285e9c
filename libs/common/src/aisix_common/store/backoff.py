"""How long to wait before trying again: doubling, with jitter, from the start again once things went well."""

import random
from typing import Final

_JITTER: Final = 0.5
"""Up to this part of the delay is taken off by chance, so that a fleet does not come back in step."""


class Backoff:
    """Delays in seconds between `first` and `longest`."""

    def __init__(self, first: float, longest: float, chance: random.Random | None = None) -> None:
        self._first = first
        self._longest = longest
        self._next = first
        self._chance = chance or random.Random()  # noqa: S311 - spreads retries, guards nothing

    def delay(self) -> float:
        """The next delay."""
        delay, self._next = self._next, min(self._next * 2, self._longest)
        return delay * (1 - _JITTER * self._chance.random())

    def reset(self) -> None:
        """All is well: the next delay is the first again."""
        self._next = self._first
