"""The frame around all that only one agent may do: win the lock, write the epoch, work until either is lost; again.

The lock says who may begin, the epoch row what everybody else's transactions fail by (`lead`): whoever wins writes it
before it does anything else. Knows neither what decides (a lock in etcd, a Kubernetes Lease) nor what the work is.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final, NoReturn, Protocol, runtime_checkable

import msgspec

from aisix_common.clock import SYSTEM_CLOCK, Clock, rfc3339
from aisix_common.errors import StoreError
from aisix_common.logs import get_logger
from aisix_common.managed.projected import epoch_key
from aisix_common.store.backoff import Backoff
from aisix_common.store.client import EtcdClient
from aisix_common.store.types import Compare, Put, unchanged
from aisix_common.tasks import TaskOwner

from .lead import Lead, LeadLost, Lock

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 10.0
"""Seconds from the end of one lead to the next try, doubling: another agent may do better."""
SETTLED_SECONDS: Final = 60.0
"""A lead that lasted that long was a good one: the next pause is short again."""
_log = get_logger(__name__)


@runtime_checkable
class Conditional(Protocol):
    """A lock that lies in the same etcd as the epoch, so that one transaction can tell that it is still ours."""

    def conditions(self) -> list[Compare]:
        """What holds in etcd as long as the lock is ours."""
        ...


class Leadership:
    """Whether this agent leads, for status and metrics. `holder` names it in the epoch row and must be its own."""

    def __init__(self, holder: str, clock: Clock = SYSTEM_CLOCK) -> None:
        self.holder: Final = holder
        self.leading = False
        self.since: datetime | None = None
        """When it began to lead, or to follow; None: it has not led yet."""
        self.changes = 0
        """How often that changed."""
        self.epoch = 0
        """The one won last."""
        self._clock = clock

    def now(self) -> datetime:
        """The current time."""
        return self._clock.now()

    def won(self, epoch: int) -> None:
        """It leads from now on."""
        self.epoch = epoch
        self._turn(leading=True)

    def lost(self) -> None:
        """It does not, whether it did or not."""
        if self.leading:
            self._turn(leading=False)

    def _turn(self, *, leading: bool) -> None:
        self.leading, self.since = leading, self.now()
        self.changes += 1


async def lead(
    lock: Lock, client: EtcdClient, run_root: str, work: Callable[[Lead], Awaitable[None]], leadership: Leadership
) -> NoReturn:
    """Until cancelled: win `lock`, write the epoch row, run `work` as long as both hold.

    Whichever of work and lock ends first ends the other. `work` raises LeadLost when it finds that another agent
    writes; that, and a crash, gives the lock back and tries for it anew after a pause. When cancelled, `work` is
    cancelled first, and the lock given back when it has ended (5 s at most, see TaskOwner).
    """
    backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
    now = asyncio.get_running_loop().time
    while True:
        try:
            await lock.acquire()
            begun = now()
            reason = await _Term(client, run_root, lock, leadership).run(work)
            _log.warning("this agent does not lead any more; it tries again", lock=lock.name, reason=reason)
            if now() - begun >= SETTLED_SECONDS:
                backoff.reset()
        except Exception as error:  # noqa: BLE001 - no mistake in a lock may end the agent
            _log.error("the lock failed", lock=lock.name, exc_info=error)
        finally:
            leadership.lost()
            await lock.release()
        await asyncio.sleep(backoff.delay())


class _Term:
    """One lead, from the won lock to its end."""

    def __init__(self, client: EtcdClient, run_root: str, lock: Lock, leadership: Leadership) -> None:
        self._client = client
        self._key = epoch_key(run_root)
        self._lock = lock
        self._leadership = leadership

    async def run(self, work: Callable[[Lead], Awaitable[None]]) -> str:
        """Work while the lock is kept; why that ended."""
        async with TaskOwner() as keeping:
            kept = keeping.spawn(self._lock.keep(), name="renewal of the lead")
            async with TaskOwner() as working:  # closed first: the lock is kept until the work has ended
                worked = working.spawn(self._work(work), name="work of the leader")
                try:
                    await asyncio.wait((kept, worked), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    self._leadership.lost()
                if not worked.done():
                    return "the lock was not renewed in time, or is another one's"
                if worked.cancelled() or worked.exception() is not None:
                    return "its work crashed"
                return worked.result()

    async def _work(self, work: Callable[[Lead], Awaitable[None]]) -> str:
        """Write the epoch and do the work; why that ended. Raises what `work` raises, but for LeadLost."""
        try:
            epoch = await self._epoch()
            self._leadership.won(epoch)
            _log.info("this agent leads", lock=self._lock.name, epoch=epoch)
            await work(Lead(epoch, self._lock.holds))
        except LeadLost as lost:
            return str(lost)
        return "its work ended"

    async def _epoch(self) -> int:
        """Write the epoch row; its mod_revision. Raises LeadLost."""
        backoff = Backoff(0.1, 1.0)
        told = False
        while self._lock.holds():
            try:
                return await self._written()
            except StoreError as error:
                if not told:
                    _log.warning("the epoch could not be written; trying on while the lock holds", reason=str(error))
                told = True
            await asyncio.sleep(backoff.delay())
        raise LeadLost("the lock was lost before the epoch was written")

    async def _written(self) -> int:
        """One try. Raises StoreError, and LeadLost: the lock is another one's, or somebody else writes the epoch."""
        before = await self._client.get(self._key)
        seen = before.mod_revision if before is not None else 0
        conditions = self._lock.conditions() if isinstance(self._lock, Conditional) else []
        said = {"holder": self._leadership.holder, "since": rfc3339(self._leadership.now())}
        text = msgspec.json.encode(said)
        try:
            done = await self._client.txn([unchanged(self._key, seen), *conditions], [Put(self._key, text)])
        except StoreError:
            # Its answer may be lost, and it done: then the row is another one than before, and says what we said.
            row = await self._client.get(self._key)
            if row is not None and row.mod_revision != seen and row.value == text and self._lock.holds():
                return row.mod_revision
            raise
        if not done.succeeded:
            raise LeadLost("another agent was faster")
        if not self._lock.holds():
            raise LeadLost("the lock was lost while the epoch was written")
        return done.revision
