"""How a job tells what it does, how long it may take, and how it fails."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from aisix_common.errors import AisixError

T = TypeVar("T")


class Failed(AisixError):
    """The job cannot go on. The text says why and what to do, and holds no secret."""


class Later(AisixError):
    """Whoever was asked is not there yet: ask again while there is time."""

    def __init__(self, reason: str, seconds: float = 1.0) -> None:
        """`seconds`: how long to wait before that."""
        super().__init__(reason)
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Job:
    """One run: where its progress goes, and when it must have ended."""

    say: Callable[[str], None]
    until: float
    """By `monotonic`."""
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def left(self, most: float) -> float:
        """Seconds for the next step: `most`, or what is left of the time."""
        return max(0.001, min(most, self.until - self.monotonic()))

    def patiently(self, what: str, attempt: Callable[[], T]) -> T:
        """What `attempt` returns, asked again as long as it raises Later. Raises Failed when the time is over."""
        told = ""
        while True:
            try:
                return attempt()
            except Later as later:
                if self.monotonic() + later.seconds >= self.until:
                    raise Failed(f"{what}: {later}: gave up, the time of this job is over")
                if str(later) != told:
                    self.say(f"{what}: {later}; trying on")
                told = str(later)
                self.sleep(later.seconds)
