"""When a service that ended by itself is started again, and when its trouble is over. Pure: the time comes in, as
seconds of one monotonic clock."""

from typing import Final

FIRST_SECONDS: Final = 1.0
"""Until the first start after an end."""
MOST_SECONDS: Final = 60.0
"""Each pause is twice the one before, up to this."""
STEADY_SECONDS: Final = 60.0
"""Whoever ran that long is well: its next end is a first one again."""


class Pace:
    """The starts and ends of one service."""

    def __init__(self) -> None:
        self.troubled = False
        """It ended by itself, and has not run for STEADY_SECONDS since."""
        self._began = 0.0
        self._due: float | None = None
        self._pause = FIRST_SECONDS

    @property
    def waiting(self) -> bool:
        """Whether it is to be started again."""
        return self._due is not None

    def started(self, now: float) -> None:
        """It runs."""
        self._began, self._due = now, None

    def ended(self, now: float) -> None:
        """It ended, or could not even be started."""
        if not self.waiting and now - self._began >= STEADY_SECONDS:
            self._pause = FIRST_SECONDS
        self.troubled = True
        self._due = now + self._pause
        self._pause = min(2 * self._pause, MOST_SECONDS)

    def due(self, now: float) -> bool:
        """Whether it is to be started now."""
        return self._due is not None and now >= self._due

    def recovered(self, now: float) -> bool:
        """True once, when it has run long enough after its trouble."""
        if self.troubled and not self.waiting and now - self._began >= STEADY_SECONDS:
            self.troubled = False
            return True
        return False

    def give_up(self) -> None:
        """It is not started again."""
        self._due = None
