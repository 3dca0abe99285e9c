"""Flows run side by side; one that crashes is started again, and only the loss of the lead ends them all."""

import asyncio

import pytest

from aisix_cloud_agent.agent import run_flows
from aisix_cloud_agent.lead.lead import Lead, LeadLost
from aisix_common.logs import get_logger
from aisix_common.store.backoff import Backoff

LOG = get_logger("tests")


def quick() -> Backoff:
    return Backoff(0.001, 0.002)


async def test_a_flow_that_crashes_or_ends_is_started_again_and_disturbs_no_other() -> None:
    starts: list[str] = []
    again = asyncio.Event()

    async def shaky(lead: Lead) -> None:
        starts.append("shaky")
        if len(starts) == 1:
            raise ValueError("a mistake")
        if len(starts) == 2:
            return
        again.set()
        await asyncio.Event().wait()

    steady_ended = asyncio.Event()

    async def steady(lead: Lead) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            steady_ended.set()

    running = asyncio.ensure_future(
        run_flows({"shaky": shaky, "steady": steady}, Lead(1, lambda: True), LOG, backoff=quick)
    )
    await again.wait()
    assert starts == ["shaky"] * 3
    assert not steady_ended.is_set()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert steady_ended.is_set()


async def test_the_loss_of_the_lead_ends_all_flows() -> None:
    ended = asyncio.Event()

    async def steady(lead: Lead) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def fenced(lead: Lead) -> None:
        await asyncio.sleep(0)
        raise LeadLost("another epoch")

    with pytest.raises(LeadLost, match="another epoch"):
        await run_flows({"steady": steady, "fenced": fenced}, Lead(1, lambda: True), LOG, backoff=quick)
    assert ended.is_set()


async def test_a_flow_is_not_started_again_without_the_lead() -> None:
    held = True

    async def shaky(lead: Lead) -> None:
        nonlocal held
        held = False
        raise ValueError("a mistake")

    with pytest.raises(LeadLost):
        await run_flows({"shaky": shaky}, Lead(1, lambda: held), LOG, backoff=quick)
