"""A watch that never shows part of a Cloud revision: what comes in the middle of one is kept back until all is here.

    EtcdSource(..., watch=held(run_root, external=False, holds=hold_counter(metrics), log=log))

The agent writes a revision that is too large for one transaction in several, between the states `applying` and `done`
of the projection row (`aisix_common.managed.projected`). That row is read after each event: rows at hand are whole when
it says `done` and the last revision that changed rows under this root has come. Rows that are still on their way from
etcd are waited for as well: what is before them may be the middle of an older projection.

It gives up after MOST_SECONDS, and shows what there is: an agent that died in the middle must not stop changes for
good.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, Final, cast

from aisix_common.errors import StoreError, StoreUnavailable
from aisix_common.logs import Logger
from aisix_common.managed.projected import NOTHING, Standing, projection_key, standing
from aisix_common.metrics import Counter, Metrics
from aisix_common.sources.etcd import Watch
from aisix_common.store.client import EtcdClient
from aisix_common.store.types import Alive, Changes, Deleted, KeyValue, Listing, Lost, WatchEvent
from aisix_common.store.watch import list_and_watch
from aisix_common.tasks import TaskOwner

MOST_SECONDS: Final = 10.0
"""What is kept back is shown after that time, whatever it is (design 9)."""
LOOK_SECONDS: Final = 0.05
"""How often the projection row is read meanwhile."""


def hold_counter(metrics: Metrics) -> Counter:
    """`aisix_config_holds_total`, for all watches of a process."""
    help = "Times that changes were kept back as part of a Cloud revision, by how it ended (whole, gave_up)."
    return metrics.counter("aisix_config_holds_total", help, ("result",))


def held(
    run_root: str,
    *,
    external: bool,
    holds: Counter,
    log: Logger,
    watch: Watch = list_and_watch,
    most_seconds: float = MOST_SECONDS,
    look_seconds: float = LOOK_SECONDS,
) -> Watch:
    """`watch` for one root, whose events are whole revisions of the Cloud; `external`: it is the ext root."""

    def whole(client: EtcdClient, prefix: str) -> AsyncGenerator[WatchEvent, None]:
        holding = _Holding(client, projection_key(run_root), external, holds, log, most_seconds, look_seconds)
        return holding.events(watch(client, prefix))

    return whole


class Kept:
    """Events as one: a Listing takes up what comes after it, Changes keep the last word on each key, in order.

    So it never holds more than one listing, and what was deleted, however long it takes.
    """

    def __init__(self) -> None:
        self.reached = 0
        """The revision that is known to be here."""
        self._first: Listing | Changes | None = None
        self._rows: dict[str, KeyValue | Deleted] | None = None
        """By key, once there is more than one event."""

    @property
    def empty(self) -> bool:
        """Whether nothing is kept."""
        return self._first is None

    def take(self, event: Listing | Changes) -> None:
        """Keep it with the others. A Listing replaces them."""
        if isinstance(event, Listing) or self._first is None:
            self.reached = event.revision
            self._first, self._rows = event, None
            return
        self.reached = max(self.reached, event.revision)
        listing = isinstance(self._first, Listing)
        if self._rows is None:
            known = self._first.rows if isinstance(self._first, Listing) else self._first.events
            self._rows = {row.key: row for row in known}
        for change in event.events:
            self._rows.pop(change.key, None)  # the order is that of the last changes
            if not listing or isinstance(change, KeyValue):
                self._rows[change.key] = change

    def release(self) -> Listing | Changes:
        """All that is kept, as one event; then it is empty."""
        first, rows = self._first, self._rows
        assert first is not None
        self._first = self._rows = None
        if rows is None:
            return first
        if isinstance(first, Listing):
            return Listing(tuple(row for row in rows.values() if isinstance(row, KeyValue)), self.reached)
        return Changes(tuple(rows.values()), self.reached)


def is_whole(row: Standing, reached: int, *, external: bool) -> bool:
    """Whether rows of a root as of the revision `reached` are a whole Cloud revision; `row` was read after that.

    Stricter than `Standing.torn`: until the last change has come, this may be the middle of a projection before the one
    that the row knows of. A row that was copied from another etcd speaks of revisions that are none of this one.
    """
    if row.marker is None:
        return True
    if row.marker.state == "applying":
        return False
    return not reached < row.rows(external=external) <= row.revision


class _Holding:
    """One run of a watch."""

    def __init__(
        self,
        client: EtcdClient,
        key: str,
        external: bool,
        holds: Counter,
        log: Logger,
        most_seconds: float,
        look_seconds: float,
    ) -> None:
        self._client = client
        self._key = key
        self._external = external
        self._holds = holds
        self._log = log
        self._most = most_seconds
        self._look_every = look_seconds
        self._kept = Kept()
        self._row = NOTHING
        self._held = False
        """What is kept was looked at, and was not whole."""
        self._deadline = self._next_look = 0.0
        self._gave_up = self._blind = False

    async def events(self, events: AsyncIterator[WatchEvent]) -> AsyncGenerator[WatchEvent, None]:
        """Never raises on its own account; ends with `events`."""
        now = asyncio.get_running_loop().time
        async with aclosing(cast("Any", events)), TaskOwner() as own:
            coming = own.spawn(_next(events), name="configuration: next event")
            while True:
                await asyncio.wait((coming,), timeout=None if self._kept.empty else max(0.0, self._next_look - now()))
                if coming.done():
                    event = coming.result()
                    if event is None:
                        return
                    coming = own.spawn(_next(events), name="configuration: next event")
                    if self._take(event, now()):
                        yield event
                if not self._kept.empty and now() >= self._next_look and await self._may_go(now):
                    yield self._kept.release()

    def _take(self, event: WatchEvent, now: float) -> bool:
        """Whether the event is for the consumer as it is."""
        if isinstance(event, Lost):
            return True
        if isinstance(event, Alive):
            self._kept.reached = max(self._kept.reached, event.revision)
        else:
            if self._kept.empty:
                self._held = False
                self._deadline, self._next_look = now + self._most, now
            self._kept.take(event)
        if self._kept.empty:
            return True
        if self._row.marker is not None and is_whole(self._row, self._kept.reached, external=self._external):
            self._next_look = now  # what was missing may have come
        return False

    async def _may_go(self, now: Callable[[], float]) -> bool:
        """Look at the projection row: whether what is kept is whole, or was kept for long enough."""
        whole = await self._look()
        if whole:
            if self._held:
                self._holds.cell("whole").add()
            if self._gave_up:
                self._log.info("the Cloud's revision is here as a whole")
            self._gave_up = False
            return True
        self._held = True
        if now() < self._deadline:
            self._next_look = min(self._deadline, now() + self._look_every)
            return False
        self._holds.cell("gave_up").add()
        if not self._gave_up:
            self._log.error(
                "part of a Cloud revision is served: its rest did not come in time; see whether a cloud agent is alive",
                seconds=self._most,
            )
        self._gave_up = True
        return True

    async def _look(self) -> bool:
        """Whether what is kept is whole, by the row as it is now. An etcd that is away says nothing: no. One that does
        not let us read the row is believed to be as it was."""
        try:
            async with asyncio.timeout_at(max(self._deadline, asyncio.get_running_loop().time() + self._look_every)):
                self._row = standing(await self._client.get(self._key))
        except (StoreUnavailable, TimeoutError):
            return False
        except StoreError as error:
            if not self._blind:
                self._log.error(
                    "the projection row cannot be read: parts of Cloud revisions may be served; grant its reading",
                    key=self._key,
                    reason=str(error),
                )
            self._blind = True
        else:
            self._blind = False
        return is_whole(self._row, self._kept.reached, external=self._external)


async def _next(events: AsyncIterator[WatchEvent]) -> WatchEvent | None:
    """None: there are no more."""
    return await anext(events, None)
