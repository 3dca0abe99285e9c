"""One heartbeat for each proxy instance that is there: at once, and then in its own rhythm (control-plane 6.3).

Proxies hold no credential of the Cloud: the agent that leads speaks for them. A beat that fails is not repeated, the
next one says it all. Which certificate a beat goes out with is decided when it is sent; one that is on its way ends on
the session it began on.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, Protocol, TypeAlias, TypedDict

from aisix_common.clock import SYSTEM_CLOCK, Clock, rfc3339
from aisix_common.logs import get_logger
from aisix_common.metrics import Metrics
from aisix_common.tasks import TaskOwner

from ..cloud.link import CloudError, CloudRefused, Link, Session
from ..lead.lead import Lead
from .beat import beat
from .instances import InstanceRow

IN_FLIGHT: Final = 8
CALL_SECONDS: Final = 15.0
"""A session gives up earlier (`link.Session`); this is for one that does not."""
_log = get_logger(__name__)

Result: TypeAlias = Literal["ok", "refused", "unavailable"]
RESULTS: Final[tuple[Result, ...]] = ("ok", "refused", "unavailable")


class Proxies(Protocol):
    """What is known of the instances: `Instances`."""

    @property
    def live(self) -> Mapping[str, InstanceRow]: ...

    async def moved(self) -> None: ...

    async def cloud_revision(self, id: str, env_id: str) -> int: ...


class HeartbeatStatus(TypedDict):
    """What is known of the heartbeats of one instance."""

    instance: str
    sent: int
    """How many the Cloud has taken, since this agent leads and the instance is there."""
    last_success_at: str | None
    last_error: str | None
    """Of the last beat, if that failed."""


@dataclass(slots=True)
class _Told:
    sent: int = 0
    last_success: datetime | None = None
    error: str | None = None


class HeartbeatMetrics:
    """Counted whether this agent leads or not."""

    def __init__(self, metrics: Metrics) -> None:
        self._all = metrics.counter(
            "aisix_cloud_heartbeats_total", "Heartbeats sent to the Cloud, by what became of them.", ("result",)
        )
        self._last = metrics.gauge(
            "aisix_cloud_heartbeat_last_success_timestamp_seconds",
            "When the Cloud last took a heartbeat; 0: not since the start.",
            merge="max",
        )
        for result in RESULTS:
            self._all.cell(result)

    def ended(self, result: Result, now: datetime) -> None:
        """A heartbeat has come to its end."""
        self._all.cell(result).add()
        if result == "ok":
            self._last.cell().set(now.timestamp())


class Heartbeats:
    """Of all instances. `run` is part of the leader's work; the rest is there for the life of the agent."""

    def __init__(
        self, link: Link, instances: Proxies, interval: float, metrics: HeartbeatMetrics, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        """`interval`: seconds, `settings.managed.heartbeat_interval_secs`."""
        self._link = link
        self._instances = instances
        self._interval = interval
        self._metrics = metrics
        self._clock = clock
        self._told: dict[str, _Told] = {}
        self._troubled = False

    def status(self) -> list[HeartbeatStatus]:
        """By instance; empty while this agent does not lead."""
        return [
            {
                "instance": id,
                "sent": told.sent,
                "last_success_at": rfc3339(told.last_success) if told.last_success is not None else None,
                "last_error": told.error,
            }
            for id, told in sorted(self._told.items())
        ]

    async def run(self, lead: Lead) -> None:
        """Send them while the lead holds. Raises LeadLost when it does not."""
        tasks: dict[str, asyncio.Task[None]] = {}
        flights = asyncio.Semaphore(IN_FLIGHT)
        try:
            async with TaskOwner() as own:
                while True:
                    lead.require()
                    live = self._instances.live
                    for id in tasks.keys() - live.keys():
                        tasks.pop(id).cancel()
                        self._forget(id)
                    for id in live:
                        if id not in tasks or tasks[id].done():  # a mistake in one beat is not the end of all
                            self._told[id] = _Told()
                            tasks[id] = own.spawn(self._keep_beating(id, lead, flights), name="heartbeats")
                    try:
                        async with asyncio.timeout(self._interval):
                            await self._instances.moved()
                    except TimeoutError:
                        pass  # time to look after the tasks, and the lead
        finally:
            self._told.clear()
            self._well()

    async def _keep_beating(self, id: str, lead: Lead, flights: asyncio.Semaphore) -> None:
        """Beat for one instance while the lead holds. A beat that is due late is sent at once, and the next an interval
        after it: they never come in a burst."""
        now = asyncio.get_running_loop().time
        await self._link.ready()
        due = now()
        while lead.holds():
            await self._beat(id, lead, flights)
            due = max(due + self._interval, now())
            await asyncio.sleep(due - now())
            await self._link.ready()

    async def _beat(self, id: str, lead: Lead, flights: asyncio.Semaphore) -> None:
        async with flights:
            session = self._link.session
            if session is None:
                return
            cloud_revision = await self._instances.cloud_revision(id, session.identity.env_id)
            # The certificate may have been replaced meanwhile, and the lead lost: what counts is now.
            session, row = self._link.session, self._instances.live.get(id)
            if session is None or row is None or not lead.holds():
                return
            body = beat(session.identity, id, row, cloud_revision, self._clock.now())
            await self._send(id, session, body)

    async def _send(self, id: str, session: Session, body: bytes) -> None:
        told = self._told.setdefault(id, _Told())
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await session.heartbeat(body)
        except (CloudError, TimeoutError) as error:
            self._metrics.ended("refused" if isinstance(error, CloudRefused) else "unavailable", self._clock.now())
            told.error = str(error) or f"the Cloud did not answer within {CALL_SECONDS:g} s"
            if not self._troubled:
                _log.warning("the Cloud does not take heartbeats; trying on", instance=id[:64], reason=told.error)
            self._troubled = True
            return
        self._link.worked_well(session)
        now = self._clock.now()
        self._metrics.ended("ok", now)
        told.sent, told.last_success, told.error = told.sent + 1, now, None
        self._well()

    def _forget(self, id: str) -> None:
        self._told.pop(id, None)
        self._well()

    def _well(self) -> None:
        """Tell the end of the trouble, once no instance has any."""
        if not self._troubled or any(told.error is not None for told in self._told.values()):
            return
        self._troubled = False
        if self._told:
            _log.info("the Cloud takes heartbeats again")
