"""Time passing, as a value that tests own: how long since, and waiting for something, but not for ever."""

import asyncio
from typing import Final, Protocol


class Time(Protocol):
    """Durations in seconds; what hour it is, others say (`aisix_common.clock`)."""

    def monotonic(self) -> float:
        """Seconds since some moment, which never go back."""
        ...

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Return when `event` is set, or after `seconds`."""
        ...


class LoopTime:
    """The running loop's."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass  # that was all the time there is


LOOP_TIME: Final = LoopTime()


def never() -> asyncio.Event:
    """For waiting that only time ends."""
    return asyncio.Event()
