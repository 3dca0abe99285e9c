"""The loop: what runs while this agent leads, and what becomes of a part of it that fails.

    always          the keeper of the identity, and the race for the lead (`app` starts both)
    while leading   projection, heartbeats, delivery of usage events, budgets: each a flow of its own

A flow that crashes by a mistake of ours is started again, and takes no other flow with it. Only the loss of the lead
ends them all.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import NoReturn, TypeAlias

from aisix_common.logs import Logger
from aisix_common.store.backoff import Backoff
from aisix_common.tasks import TaskOwner

from .lead.lead import Lead, LeadLost

Flow: TypeAlias = Callable[[Lead], Awaitable[None]]
"""Runs until it is cancelled, or raises LeadLost."""


async def run_flows(flows: Mapping[str, Flow], lead: Lead, log: Logger, *, backoff: Callable[[], Backoff]) -> NoReturn:
    """Run all flows, by name, until cancelled. Raises LeadLost as soon as one of them does; the others have ended then.

    `backoff` makes the pauses before a flow that crashed is started again.
    """
    async with TaskOwner() as own:
        tasks = [own.spawn(_kept(name, flow, lead, log, backoff()), name=name) for name, flow in flows.items()]
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        raise LeadLost(next(iter(ended)).result())


async def _kept(name: str, flow: Flow, lead: Lead, log: Logger, backoff: Backoff) -> str:
    """Run a flow for as long as we lead; why we do not any more."""
    while True:
        try:
            await flow(lead)
            raise RuntimeError(f"{name} ended by itself")
        except LeadLost as lost:
            return str(lost)
        except Exception:  # whatever it is, it is told, and the other flows go on
            log.exception("a part of the agent failed and is started again", part=name)
        await asyncio.sleep(backoff.delay())
        if not lead.holds():
            return "the lead was not renewed in time"
