"""The tasks of a flow stand and fall together."""

import asyncio

import pytest

from aisix_cloud_agent.flow.crew import Crew
from aisix_cloud_agent.lead.lead import LeadLost


async def test_the_first_that_fails_ends_all_and_what_it_failed_with_comes_out() -> None:
    ended: list[str] = []

    async def lasting() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("lasting")

    async def brief() -> None:
        ended.append("brief")

    async def failing() -> None:
        raise LeadLost("another agent leads")

    with pytest.raises(LeadLost, match="another agent leads"):
        async with Crew() as crew:
            crew.start(lasting(), name="lasting")
            crew.start(brief(), name="brief")
            await asyncio.sleep(0)
            assert ended == ["brief"], "that is no failure"
            crew.start(failing(), name="failing")
            await crew.failure()
    assert ended == ["brief", "lasting"]


async def test_whoever_is_cancelled_ends_its_crew() -> None:
    ended = asyncio.Event()

    async def lasting() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def flow() -> None:
        async with Crew() as crew:
            crew.start(lasting(), name="lasting")
            await crew.failure()

    task = asyncio.create_task(flow())
    await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
