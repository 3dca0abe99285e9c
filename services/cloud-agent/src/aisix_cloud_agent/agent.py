"""The loop: what runs while this agent leads, and what becomes of a part of it that fails.

    always          the keeper of the identity, and the race for the lead (`app` starts both)
    while leading   projection, heartbeats, delivery of usage events, budgets: each a flow of its own

A flow that crashes by a mistake of ours is started again, and takes no other flow with it. Only the loss of the lead
ends them all.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from aisix_common.logs import Logger
from aisix_common.store.backoff import Backoff

from .lead import Lead, LeadLost

Flow: TypeAlias = Callable[[Lead], Awaitable[None]]
"""Runs until it is cancelled, or raises LeadLost."""


async def run_flows(flows: Mapping[str, Flow], lead: Lead, log: Logger, *, backoff: Callable[[], Backoff]) -> None:
    """Run all flows, by name, until cancelled. Raises LeadLost as soon as one of them does; the others have ended then.

    `backoff` makes the pauses before a flow that crashed is started again.
    """
    try:
        async with asyncio.TaskGroup() as group:
            for name, flow in flows.items():
                group.create_task(_kept(name, flow, lead, log, backoff()), name=name)
    except* LeadLost as lost:
        raise LeadLost(str(lost.exceptions[0])) from None


async def _kept(name: str, flow: Flow, lead: Lead, log: Logger, backoff: Backoff) -> None:
    while True:
        try:
            await flow(lead)
            raise RuntimeError(f"{name} ended by itself")
        except LeadLost:
            raise
        except Exception:  # whatever it is, it is told, and the other flows go on
            log.exception("a part of the agent failed and is started again", part=name)
        await asyncio.sleep(backoff.delay())
        lead.require()
