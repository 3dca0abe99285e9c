"""Failed attempts on the admin keys are slowed down and counted, by the address they come from. Knows no HTTP.

A wrong key is answered later and later; a good one never is, whatever others at its address do. Behind a load balancer
that hides addresses all callers share one: they are slowed down together, and still none with a good key. A good key
forgives nothing: beside a client that polls with one, a guesser at the same address would never wait.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

from aisix_common.logs import Logger

from .errors import CallerError

FREE: Final = 3
"""Failures that are answered at once: typos."""
FIRST_DELAY: Final = 0.25
LONGEST_DELAY: Final = 4.0
PEACE: Final = 60.0
"""Seconds without a failure after which an address starts anew."""
MOST_ADDRESSES: Final = 4096
MOST_WAITING: Final = 256
"""Answers that are held back at a time; every one holds a connection."""
LINE_SECONDS: Final = 10.0
"""At most one line for an address, and twenty for all, in that time."""
_MOST_LINES: Final = 20

Reason: TypeAlias = Literal["missing", "malformed", "unknown"]


class Counted(Protocol):
    """Where failures are counted."""

    def auth_failed(self, reason: str) -> None: ...


class Throttled(CallerError):
    """Too many failed attempts at once."""

    status = 429

    def __init__(self) -> None:
        self.retry_after = int(LONGEST_DELAY)
        super().__init__("too many failed attempts with admin keys: try again in a few seconds")


@dataclass(slots=True)
class _Address:
    failures: int = 0
    last: float = 0.0
    told: float = float("-inf")


class Throttle:
    """See the module. `await failed(...)` before the 401 is answered."""

    def __init__(
        self,
        counted: Counted,
        log: Logger,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._counted = counted
        self._log = log
        self._now = now
        self._sleep = sleep
        self._addresses: OrderedDict[str, _Address] = OrderedDict()
        """The one that failed last at the end."""
        self._waiting = 0
        self._lines = 0
        self._lines_since = float("-inf")

    async def failed(self, address: str, reason: Reason) -> None:
        """Count a failed attempt, and return when it may be answered. Raises Throttled where too many wait already."""
        self._counted.auth_failed(reason)
        known = self._noted(address)
        delay = delay_after(known.failures)
        self._tell(address, known, reason)
        if not delay:
            return
        if self._waiting >= MOST_WAITING:
            self._counted.auth_failed("throttled")
            raise Throttled
        self._waiting += 1
        try:
            await self._sleep(delay)
        finally:
            self._waiting -= 1

    def _noted(self, address: str) -> _Address:
        now = self._now()
        known = self._addresses.pop(address, None)
        if known is None or now - known.last > PEACE:
            known = _Address()
        known.failures += 1
        known.last = now
        self._addresses[address] = known
        if len(self._addresses) > MOST_ADDRESSES:
            self._addresses.popitem(last=False)
        return known

    def _tell(self, address: str, known: _Address, reason: str) -> None:
        now = self._now()
        if now - self._lines_since > LINE_SECONDS:
            self._lines, self._lines_since = 0, now
        if now - known.told <= LINE_SECONDS or self._lines >= _MOST_LINES:
            return
        known.told = now
        self._lines += 1
        self._log.warning(
            "an attempt without a good admin key", address=address, reason=reason, failures=known.failures
        )


def delay_after(failures: int) -> float:
    """Seconds an answer is held back after so many failures in a row: none at first, then doubling up to the bound."""
    if failures <= FREE:
        return 0.0
    return float(min(FIRST_DELAY * 2 ** min(failures - FREE - 1, 16), LONGEST_DELAY))
