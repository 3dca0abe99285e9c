"""Time that passes by the loop, which is looptime's here."""

import asyncio

import pytest

from aisix_cloud_agent.flow.waiting import LOOP_TIME, never


@pytest.mark.looptime
async def test_waiting_ends_with_the_event_or_with_the_time() -> None:
    began = LOOP_TIME.monotonic()
    await LOOP_TIME.wait(never(), 60)
    assert LOOP_TIME.monotonic() - began == 60
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(5, event.set)
    await LOOP_TIME.wait(event, 60)
    assert LOOP_TIME.monotonic() - began == 65
    await LOOP_TIME.wait(event, 60)
    assert LOOP_TIME.monotonic() - began == 65
