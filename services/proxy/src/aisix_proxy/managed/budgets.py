"""Whether a caller key may spend, without asking anybody on the way of a request (design 9; control-plane 6.5).

    verdict = budgets.verdict(id) or await budgets.wait(id)

Keys in use are told to the agent (`asking`), which asks the Cloud and publishes what it said (`decisions`). A key that
comes into use, and of which nothing recent is known, waits for the Cloud's word: WAIT_SECONDS at most, counted from its
first request, and not again while it stays in use. What was known of it before counts then, or nothing: deny.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from typing import Final

from aisix_common.clock import Clock
from aisix_common.logs import Logger
from aisix_common.managed.budgets import MOST_KEYS, Budget, decided_root
from aisix_common.store.client import EtcdClient
from aisix_common.store.types import Changes, Deleted, KeyValue, Listing, Lost
from aisix_common.store.watch import DEFAULT_TUNING, WatchTuning, list_and_watch
from aisix_common.tasks import TaskOwner

from .asking import Asking
from .decisions import RECENT_SECONDS, Decisions, Verdict

WAIT_SECONDS: Final = 0.25
"""A request waits no longer for the Cloud's word on its key."""
MOST_WAITING: Final = 4096
"""Requests that wait; one more is answered by what is known."""
_PRUNE_SECONDS: Final = 60.0


class _Pending:
    """A key whose first requests wait."""

    __slots__ = ("over", "timer")

    def __init__(self, timer: asyncio.TimerHandle) -> None:
        self.over = asyncio.Event()
        self.timer = timer


class Budgets:
    """One per process. `verdict` and `wait` are for the event loop, `run` is a background task."""

    def __init__(
        self,
        client: EtcdClient,
        run_root: str,
        instance: str,
        lease: Callable[[], int],
        *,
        clock: Clock,
        stale_max_secs: float,
        log: Logger,
        monotonic: Callable[[], float] = time.monotonic,
        tuning: WatchTuning = DEFAULT_TUNING,
    ) -> None:
        """`instance` and `lease` are those of this process's own row; the lease is 0 while there is none."""
        self._client = client
        self._root = decided_root(run_root)
        self._clock = clock
        self._monotonic = monotonic
        self._epoch = 0.0
        """Wall time when the monotonic clock was 0: reading that one alone takes a tenth of the time. Set anew with
        everything that comes from etcd."""
        self._log = log
        self._tuning = tuning
        self._decisions = Decisions(run_root, stale_max_secs, log)
        self._asking = Asking(client, run_root, instance, lease, log, monotonic=monotonic)
        self._pending: dict[str, _Pending] = {}
        self._waiting = 0
        self._lost = False
        self._pruned = 0.0

    def verdict(self, api_key_id: str) -> Verdict | None:
        """What counts for a key that is used now; None: worth a `wait`. Takes about a microsecond."""
        if not self._asking.use(api_key_id):
            self._begin(api_key_id)
        if api_key_id in self._pending:
            return None
        return self._decisions.verdict(api_key_id, self._now())

    async def wait(self, api_key_id: str) -> Verdict:
        """The same after a wait, if the key has one before it. Raises nothing."""
        pending = self._pending.get(api_key_id)
        if pending is not None and self._waiting < MOST_WAITING:
            self._waiting += 1
            try:
                await pending.over.wait()
            finally:
                self._waiting -= 1
        return self._decisions.verdict(api_key_id, self._now())

    def take(self, event: KeyValue | Deleted) -> None:
        """A row of decisions as it is now: whoever waits for one of its keys goes on."""
        now = self._set_time()
        for id in self._decisions.take(event, now):
            if id in self._pending and self._decisions.counts(id, now):
                self._settle(id)

    def budgets(self) -> Iterator[tuple[str, Budget | None]]:
        """The numbers of every key that is known, for metrics."""
        return self._decisions.budgets()

    async def run(self) -> None:
        """Follow the decisions and keep the asking rows true, until cancelled."""
        async with TaskOwner() as own:
            asking = own.spawn(self._asking.run(), name="budgets: keys in use")
            await asyncio.gather(asking, own.spawn(self._follow(), name="budgets: decisions"))

    def _now(self) -> float:
        return self._monotonic() + self._epoch

    def _set_time(self) -> float:
        self._epoch = self._clock.now().timestamp() - self._monotonic()
        return self._now()

    def _begin(self, id: str) -> None:
        """A key comes into use."""
        if id in self._pending or len(self._pending) >= MOST_KEYS:
            return
        now = self._set_time()
        if self._decisions.age(id, now) < RECENT_SECONDS:
            return
        self._pending[id] = _Pending(asyncio.get_running_loop().call_later(WAIT_SECONDS, self._settle, id))

    def _settle(self, id: str) -> None:
        """Nobody waits for this key any more: its time is over, or the Cloud spoke."""
        pending = self._pending.pop(id, None)
        if pending is not None:
            pending.timer.cancel()
            pending.over.set()

    async def _follow(self) -> None:
        async with aclosing(list_and_watch(self._client, self._root, self._tuning)) as events:
            async for event in events:
                if isinstance(event, Lost):
                    self._tell_lost(event.reason)
                    continue
                self._tell_lost("")
                if isinstance(event, Listing):
                    self._decisions.absent(event, self._now())
                    self._asking.rewrite()  # a listing: etcd may not be the one that we wrote to
                    for row in event.rows:
                        self.take(row)
                        await asyncio.sleep(0)  # some hundred keys each
                elif isinstance(event, Changes):
                    for change in event.events:
                        self.take(change)
                self._prune()

    def _prune(self) -> None:
        now = self._set_time()
        if abs(now - self._pruned) >= _PRUNE_SECONDS:
            self._pruned = now
            self._decisions.prune(now)

    def _tell_lost(self, reason: str) -> None:
        if reason and not self._lost:
            self._log.warning("budget decisions are not heard of: those that are known count on", reason=reason)
        elif not reason and self._lost:
            self._log.info("budget decisions are heard of again")
        self._lost = bool(reason)
