"""The lead as a leased row of the local etcd: `<run root>/agent/leader`, there as long as its holder renews the lease.

Whoever makes the row while it is absent has the lock; the others watch it. It is ours while the row hangs on our lease
and the lease was renewed in time, counted by our own clock from before we asked: etcd counts from later on. The lease
decides, not the text of the row: an etcd that was restored may have the row with a lease that nobody renews, or that is
gone for good.
"""

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Final

import msgspec

from aisix_common.clock import SYSTEM_CLOCK, Clock, rfc3339
from aisix_common.errors import StoreError
from aisix_common.logs import get_logger
from aisix_common.store.backoff import Backoff
from aisix_common.store.client import EtcdClient
from aisix_common.store.types import Alive, Compare, Lost, Put, unchanged
from aisix_common.store.watch import list_and_watch
from aisix_common.tasks import TaskOwner

TTL_SECONDS: Final = 10
"""After that long without renewal etcd takes the row away: what others wait for when a holder is killed."""
RENEW_SECONDS: Final = 2.5
MARGIN_SECONDS: Final = 1.0
"""We stop to believe in our lock that long before etcd does: for clocks that run at different speeds."""
LOOK_SECONDS: Final = 3.0
"""Who waits looks that often besides watching."""
_RELEASE_SECONDS: Final = 2.0
_log = get_logger(__name__)


class _Leader(msgspec.Struct, frozen=True):
    """The row: for people, nobody decides by it."""

    holder: str
    since: str
    """RFC 3339."""


class EtcdLock:
    """A `Lock` (see `lead`). `holder` names this process in the row; `monotonic` is in seconds and must go on while
    this process is stopped."""

    def __init__(
        self,
        client: EtcdClient,
        run_root: str,
        holder: str,
        monotonic: Callable[[], float] = time.monotonic,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._client = client
        self._key = f"{run_root}/agent/leader"
        self._holder = holder
        self._monotonic = monotonic
        self._clock = clock
        self._lease = 0
        """Ours, if any; whether the row hangs on it is another matter."""
        self._revision = 0
        """mod_revision of the row while it is ours."""
        self._until = -math.inf
        """Nobody else can have got it before then, by our clock."""
        self._troubled = False
        self.name = f"etcd lock {self._key}"

    def holds(self) -> bool:
        """Whether nobody else can have got it yet."""
        return self._monotonic() < self._until

    def conditions(self) -> list[Compare]:
        """What holds in etcd as long as the lock is ours: for a transaction of whoever has won it."""
        return [unchanged(self._key, self._revision)]

    async def acquire(self) -> None:
        """Wait, however long, until it is ours."""
        moved = asyncio.Event()
        won = False
        try:
            async with TaskOwner() as own:
                own.spawn(self._follow(moved), name="the row of who leads")
                backoff = Backoff(0.1, 1.0)
                while not won:
                    moved.clear()
                    try:
                        won = await self._try()
                        self._well()
                    except StoreError as error:
                        self._trouble("the lead cannot be asked for; trying on", error)
                        await asyncio.sleep(backoff.delay())
                        continue
                    backoff.reset()
                    if not won:
                        await _woken(moved, LOOK_SECONDS)
        finally:
            if not won:
                await self.release()

    async def keep(self) -> None:
        """Renew it until it is lost."""
        backoff = Backoff(0.1, 1.0)
        delay = RENEW_SECONDS
        while True:
            await asyncio.sleep(max(0.0, min(delay, self._left())))
            if (left := self._left()) <= 0:
                break
            begun = self._monotonic()
            try:
                async with asyncio.timeout(left):
                    if not await self._renewed(begun):
                        break
            except (StoreError, TimeoutError) as error:
                self._trouble("the lead could not be renewed; trying on while it lasts", error)
                delay = backoff.delay()
                continue
            self._well()
            backoff.reset()
            delay = RENEW_SECONDS - (self._monotonic() - begun)
        self._until = -math.inf

    async def release(self) -> None:
        """Give it back, if it is ours, so that the next one need not wait."""
        lease, self._lease, self._until = self._lease, 0, -math.inf
        if not lease:
            return
        try:
            async with asyncio.timeout(_RELEASE_SECONDS):
                await self._client.revoke(lease)
        except (StoreError, TimeoutError):
            pass  # it is gone already, or runs out by itself

    async def _try(self) -> bool:
        """One look, and one try where the row is free; whether it is ours. Raises StoreError."""
        row = await self._client.get(self._key)
        if row is not None and row.lease:
            if row.lease == self._lease:  # the answer to an earlier try was lost
                return await self._renewed(self._monotonic())
            if await self._client.time_to_live(row.lease) >= 0:
                return False
        begun = self._monotonic()
        if self._lease and await self._client.keep_alive(self._lease) <= 0:
            self._lease = 0
        if not self._lease:
            self._lease = await self._client.grant(TTL_SECONDS)
        text = msgspec.json.encode(_Leader(self._holder, rfc3339(self._clock.now())))
        free = unchanged(self._key, row.mod_revision if row is not None else 0)
        done = await self._client.txn([free], [Put(self._key, text, lease=self._lease)])
        if done.succeeded:
            self._take(begun, done.revision)
        return done.succeeded and self.holds()

    async def _renewed(self, begun: float) -> bool:
        """Renew the lease; whether the row hangs on it. Raises StoreError."""
        if not self._lease or await self._client.keep_alive(self._lease) <= 0:
            self._lease = 0
            return False
        row = await self._client.get(self._key)
        if row is None or row.lease != self._lease:
            return False
        self._take(begun, row.mod_revision)
        return True

    def _take(self, begun: float, revision: int) -> None:
        self._until = begun + TTL_SECONDS - MARGIN_SECONDS
        self._revision = revision

    def _left(self) -> float:
        return self._until - self._monotonic()

    async def _follow(self, moved: asyncio.Event) -> None:
        """Tell when the row changed, or may have."""
        async with aclosing(list_and_watch(self._client, self._key)) as events:
            async for event in events:
                if not isinstance(event, Alive | Lost):
                    moved.set()

    def _trouble(self, what: str, error: Exception) -> None:
        if not self._troubled:
            _log.warning(what, lock=self._key, reason=str(error) or "no answer in time")
        self._troubled = True

    def _well(self) -> None:
        if self._troubled:
            _log.info("etcd answers about the lead again", lock=self._key)
        self._troubled = False


async def _woken(moved: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await moved.wait()
    except TimeoutError:
        pass  # time for another look
