"""The lead by a Kubernetes Lease (coordination.k8s.io/v1), kept as client-go keeps one.

Whoever renews it every RENEW seconds has it. Its times are written by other machines' clocks and are not looked at:
somebody else's Lease is over when we saw it unchanged for as long as it lasts, by our own clock. Ours is, for us, as
long after the *start* of the last renewal as others wait at least, less MARGIN; that clock goes on while the process is
stopped. What is written counts only if nobody wrote since it was read.
"""

import asyncio
import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Final, TypeVar

from aisix_common.clock import SYSTEM_CLOCK, Clock
from aisix_common.logs import get_logger

from .api import LEASE, Document, KubernetesAway, KubernetesConflict, KubernetesError, Objects, Place

DURATION: Final = 10
"""Seconds a Lease lasts without being renewed."""
RENEW: Final = 2.5
RETRY: Final = 2.0
"""Seconds from one renewal, or try, to the next."""
MARGIN: Final = 1.5
"""Seconds before its end from which it counts as lost: for calls that have begun, and for clocks that run slower."""
_DEADLINE: Final = 3.0
"""Seconds a call may take: two fit between the first renewal and the end."""
_GOODBYE: Final = 2.0
_CONFLICTS: Final = 3
"""Writes in one renewal that somebody else, changing a label, may come before."""

T = TypeVar("T")
_log = get_logger(__name__)


def own_identity() -> str:
    """A name that no other process has, nor this one after a restart."""
    return f"{socket.gethostname()}_{secrets.token_hex(6)}"


@dataclass(frozen=True, slots=True)
class Record:
    """What a Lease says of who has it: it changes with each renewal."""

    holder: str
    """Blank: nobody."""
    duration: float
    """Seconds."""
    renewed: str
    acquired: str
    transitions: int


def record_of(lease: Document) -> Record:
    """What a Lease says; what is missing or no number reads as ours does."""
    spec = lease.get("spec") or {}
    duration, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    return Record(
        spec.get("holderIdentity") or "",
        duration if isinstance(duration, int) and duration > 0 else DURATION,
        str(spec.get("renewTime")),
        str(spec.get("acquireTime")),
        transitions if isinstance(transitions, int) else 0,
    )


class Watched:
    """How long somebody else's Lease has been seen unchanged."""

    def __init__(self) -> None:
        self._record: Record | None = None
        self._since = -inf

    def left(self, record: Record | None, at: float) -> float:
        """Seconds for which it still counts, as it was read at `at` (monotonic, after the answer). None: the Lease is
        not there. Whoever had it may not know that it was deleted, so this changes nothing."""
        if record is not None and record != self._record:
            self._record, self._since = record, at
        if self._record is None or not self._record.holder:
            return 0.0
        return max(0.0, self._since + self._record.duration - at)


class KubernetesLock:
    """A `Lock` on the Lease at `at`, which is made where it is missing."""

    def __init__(
        self,
        objects: Objects,
        at: Place,
        identity: str,
        *,
        clock: Clock = SYSTEM_CLOCK,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.name = f"Lease {at}"
        self._objects, self._at, self._identity = objects, at, identity
        self._clock, self._monotonic, self._sleep = clock, monotonic, sleep
        self._watched = Watched()
        self._lease: Document | None = None  # as we wrote it last, while it is ours
        self._until = -inf
        self._wrote = False
        self._flight: asyncio.Future[Document | None] | None = None
        self._troubles: set[type[KubernetesError]] = set()

    async def acquire(self) -> None:
        while True:
            try:
                wait = await self._compete()
                self._well()
            except KubernetesConflict:
                wait = RETRY  # somebody else was first in this round
            except KubernetesError as error:
                wait = RETRY
                self._told(error)
            if self.holds():
                return
            await self._sleep(wait)

    async def keep(self) -> None:
        wait = RENEW
        while (left := self._until - self._monotonic()) > 0:
            await self._sleep(min(wait, left))
            if not self.holds():
                break  # the process was stopped: whoever has it now, we have not
            began = self._monotonic()
            try:
                if not await self._renew():
                    _log.warning("somebody else has the lead now", lock=self.name)
                    self._until = -inf
                    return
                wait = RENEW
                self._well()
            except KubernetesError as error:
                wait = RETRY
                self._told(error)
            wait = max(0.0, wait - (self._monotonic() - began))
        _log.warning("the lead was not renewed in time", lock=self.name)
        self._until = -inf

    def holds(self) -> bool:
        return self._monotonic() < self._until

    async def release(self) -> None:
        self._until = -inf
        if not self._wrote:
            return
        try:
            async with asyncio.timeout(_GOODBYE):
                lease = await self._get()
                if lease is not None and record_of(lease).holder == self._identity:
                    await self._put(lease, {"holderIdentity": "", "renewTime": self._now()})
            self._wrote = False
        except (KubernetesError, TimeoutError):
            pass  # it runs out by itself

    async def _compete(self) -> float:
        """Take the Lease, if it is to be had; else how long to wait with the next try."""
        lease = await self._get()
        record = record_of(lease) if lease is not None else None
        if record is None or record.holder != self._identity:
            # Ours where a write arrived after all whose answer did not: then nobody else can have it.
            left = self._watched.left(record, self._monotonic())
            if left > 0:
                return min(RETRY, left)
        await self._take(lease)
        return 0.0

    async def _renew(self) -> bool:
        """Whether it is still ours: what we wrote last is written anew."""
        lease = self._lease
        for _ in range(_CONFLICTS):
            try:
                await self._take(lease)
                return True
            except KubernetesConflict:
                lease = await self._get()
            if lease is not None and record_of(lease).holder != self._identity:
                return False
        raise KubernetesConflict(f"{self.name} is changed by others all the time")

    async def _take(self, lease: Document | None) -> None:
        """Write us into the Lease, or make it. From the moment before that on it is ours."""
        began, now = self._monotonic(), self._now()
        ours = {"holderIdentity": self._identity, "leaseDurationSeconds": DURATION, "renewTime": now}
        before = record_of(lease) if lease is not None else None
        if before is None:
            ours |= {"acquireTime": now, "leaseTransitions": 0}
        elif before.holder != self._identity:
            ours |= {"acquireTime": now, "leaseTransitions": before.transitions + 1}
        self._wrote = True
        self._lease = await self._put(lease, ours)
        self._until = began + DURATION - MARGIN

    async def _get(self) -> Document | None:
        return await self._call(partial(self._objects.get, LEASE, self._at, _DEADLINE))

    async def _put(self, lease: Document | None, fields: Document) -> Document | None:
        if lease is None:
            return await self._call(partial(self._objects.create, LEASE, self._at, {"spec": fields}, _DEADLINE))
        changed = {**lease, "spec": {**(lease.get("spec") or {}), **fields}}
        return await self._call(partial(self._objects.replace, LEASE, self._at, changed, _DEADLINE))

    async def _call(self, call: Callable[[], Document | None]) -> Document | None:
        """Do it in a thread, one at a time: a thread cannot be ended, so one that is left behind is waited for."""
        try:
            async with asyncio.timeout(_DEADLINE):
                if self._flight is not None:
                    await asyncio.wait((self._flight,))
                self._flight = asyncio.get_running_loop().run_in_executor(None, call)
                self._flight.add_done_callback(lambda flight: flight.cancelled() or flight.exception())
                return await asyncio.shield(self._flight)
        except TimeoutError:
            raise KubernetesAway(f"the Kubernetes API gave no answer within {_DEADLINE:g} s") from None

    def _now(self) -> str:
        return self._clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def _told(self, error: KubernetesError) -> None:
        """Each kind of trouble once, until all is well."""
        if type(error) not in self._troubles:
            self._troubles.add(type(error))
            _log.warning("the lead can be neither had nor renewed now", lock=self.name, error=str(error))

    def _well(self) -> None:
        if self._troubles:
            self._troubles.clear()
            _log.info("the lead can be asked for again", lock=self.name)
