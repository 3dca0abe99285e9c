"""A keeper at work in a test: real TLS to the Cloud, a folder as the store, a clock that moves when told to."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from aisix_cloud_agent.cloud.link import Link
from aisix_cloud_agent.cloud.session import open_session
from aisix_cloud_agent.identity.bundle import Bundle
from aisix_cloud_agent.identity.bundle_store import BundleStore, DirectoryStore
from aisix_cloud_agent.identity.enrolling import KeptSession
from aisix_cloud_agent.identity.identity import Identity
from aisix_cloud_agent.identity.keeper import Keeper, Pace
from aisix_common.logs import Logger
from aisix_common.metrics import Metrics
from aisix_common.settings.control import Managed
from aisix_common.tasks import TaskOwner

from tests.cloud_agent.rest_cloud import BEAT

QUICK: Final = Pace(tick=0.01, look=0.04, look_first=0.02, trial=30.0, linger=0.05)
DEADLINE: Final = 15.0


class MovedClock:
    """The real time, and what it was moved by."""

    def __init__(self) -> None:
        self.moved = dt.timedelta()

    def now(self) -> dt.datetime:
        return dt.datetime.now(dt.UTC) + self.moved


class Monotonic:
    """Seconds of the loop, and what they were moved by."""

    def __init__(self) -> None:
        self.moved = 0.0

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self.moved


def logger(lines: structlog.testing.LogCapture) -> Logger:
    log: Logger = structlog.wrap_logger(
        None, processors=[lines], wrapper_class=structlog.make_filtering_bound_logger(0), cache_logger_on_first_use=True
    )
    return log


@dataclass
class Kept:
    """A keeper that runs, and what can be seen of it."""

    keeper: Keeper
    link: Link
    clock: MovedClock
    monotonic: Monotonic
    metrics: Metrics
    lines: structlog.testing.LogCapture
    opened: list[KeptSession]
    leads: list[bool] = field(default_factory=lambda: [True])

    @property
    def identity(self) -> Identity:
        """Of the session in force."""
        return self.link.in_force().identity

    async def first(self) -> Identity:
        """Wait for a session."""
        async with asyncio.timeout(DEADLINE):
            return (await self.link.ready()).identity

    async def beat(self) -> None:
        """A heartbeat over the session in force, as the flow does it."""
        session = self.link.in_force()
        await session.heartbeat(BEAT.replace(b"dp-7", session.identity.dp_id.encode()))
        self.link.worked_well(session)

    def metric(self, name: str, *labels: str) -> float:
        family = next(family for family in self.metrics.collect() if family.name == name)
        return next(sample.value for sample in family.samples if sample.labels == labels)

    def events(self) -> list[str]:
        return [line["event"] for line in self.lines.entries]

    def everything_said(self) -> str:
        return repr(self.lines.entries) + repr(self.metrics.collect()) + repr(self.keeper.status())


async def until(holds: Callable[[], Any]) -> None:
    """Wait for what other tasks bring about."""
    async with asyncio.timeout(DEADLINE):
        while not holds():
            await asyncio.sleep(0.005)


def store_of(managed: Managed) -> DirectoryStore:
    return DirectoryStore(Path(managed.mtls_dir), Path(managed.dp_id_file))


@asynccontextmanager
async def keeping(
    managed: Managed, store: BundleStore | None = None, *, leads: bool = True, pace: Pace = QUICK
) -> AsyncIterator[Kept]:
    """A keeper that runs while the context lasts; its end is a kill."""
    opened: list[KeptSession] = []
    clock, monotonic, link, metrics, lines = (
        MovedClock(),
        Monotonic(),
        Link(),
        Metrics(),
        structlog.testing.LogCapture(),
    )

    def opening(managed: Managed, bundle: Bundle, identity: Identity) -> KeptSession:
        session = open_session(managed, bundle, identity, clock)
        opened.append(session)
        return session

    keeper = Keeper(
        managed,
        store or store_of(managed),
        link,
        clock=clock,
        random=lambda: 0.5,
        monotonic=monotonic,
        log=logger(lines),
        metrics=metrics,
        open_session=opening,
        pace=pace,
    )
    kept = Kept(keeper, link, clock, monotonic, metrics, lines, opened, [leads])
    try:
        async with TaskOwner() as tasks:
            task = tasks.spawn(keeper.run(lambda: kept.leads[0]), name="keeper")
            yield kept
            assert not task.done(), "nothing ends the keeper"
    finally:
        await keeper.aclose()
