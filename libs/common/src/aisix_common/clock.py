"""Time as a value that is passed in, so that tests own it.

Deadlines inside a running loop use `loop.time()`; this clock is for what is shown to people or stored: wall time.
"""

from datetime import UTC, datetime
from typing import Final, Protocol


class Clock(Protocol):
    """Where wall time comes from."""

    def now(self) -> datetime:
        """The current time, timezone-aware, in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


SYSTEM_CLOCK: Final = SystemClock()


def rfc3339(moment: datetime) -> str:
    """`moment` (aware, any zone) as RFC 3339 in UTC with whole seconds and `Z`, as every surface of ours shows time."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
