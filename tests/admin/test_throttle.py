"""Guessers wait, and nobody else does."""

import asyncio
from typing import cast

import pytest
import structlog

from aisix_admin.throttle import MOST_ADDRESSES, MOST_WAITING, PEACE, Throttle, Throttled, delay_after
from aisix_common.logs import Logger
from aisix_common.tasks import TaskOwner


class World:
    """A throttle with a clock that stands still, and what it did."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self.counts: dict[str, int] = {}
        self.lines = structlog.testing.LogCapture()
        self.hold: asyncio.Event | None = None
        log = cast("Logger", structlog.wrap_logger(None, processors=[self.lines]))
        self.throttle = Throttle(self, log, now=lambda: self.now, sleep=self._sleep)

    def auth_failed(self, reason: str) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + 1

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if self.hold is not None:
            await self.hold.wait()


def test_delays() -> None:
    assert [delay_after(n) for n in range(1, 10)] == [0, 0, 0, 0.25, 0.5, 1, 2, 4, 4]
    assert delay_after(10**9) == 4


async def test_an_address_waits_longer_and_longer_until_it_is_peaceful() -> None:
    world = World()
    for _ in range(6):
        await world.throttle.failed("a", "unknown")
    assert world.slept == [0.25, 0.5, 1.0]
    await world.throttle.failed("b", "missing")
    assert len(world.slept) == 3, "others do not wait for it"
    world.now = PEACE
    await world.throttle.failed("a", "unknown")
    assert world.slept[-1] == 2.0
    world.now += PEACE + 0.1
    await world.throttle.failed("a", "unknown")
    assert len(world.slept) == 4
    assert world.counts == {"unknown": 8, "missing": 1}


async def test_answers_held_back_are_bounded() -> None:
    world = World()
    world.hold = asyncio.Event()
    for _ in range(3):
        await world.throttle.failed("a", "unknown")
    async with TaskOwner() as tasks:
        waiting = [tasks.spawn(world.throttle.failed("a", "unknown"), name="w") for _ in range(MOST_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(Throttled) as caught:
            await world.throttle.failed("a", "unknown")
        assert (caught.value.status, caught.value.retry_after) == (429, 4)
        await world.throttle.failed("b", "unknown")
        world.hold.set()
        await asyncio.gather(*waiting)
        await world.throttle.failed("b", "unknown")
    assert world.counts == {"unknown": 3 + MOST_WAITING + 3, "throttled": 1}
    assert world.throttle._waiting == 0


async def test_the_table_is_bounded_and_forgets_the_oldest() -> None:
    world = World()
    for _ in range(3):
        await world.throttle.failed("first", "unknown")
        await world.throttle.failed("last", "unknown")
    for n in range(MOST_ADDRESSES - 1):
        await world.throttle.failed(f"n{n}", "unknown")
    assert len(world.throttle._addresses) == MOST_ADDRESSES
    await world.throttle.failed("last", "unknown")
    assert world.slept == [0.25]
    await world.throttle.failed("first", "unknown")
    assert len(world.slept) == 1


async def test_lines_are_few() -> None:
    world = World()
    for _ in range(20):
        await world.throttle.failed("a", "unknown")
    assert [line["failures"] for line in world.lines.entries] == [1]
    world.now = 11
    await world.throttle.failed("a", "unknown")
    assert [line["failures"] for line in world.lines.entries] == [1, 21]
    for n in range(100):
        await world.throttle.failed(f"n{n}", "malformed")
    assert len(world.lines.entries) == 1 + 20
