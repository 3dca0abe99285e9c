"""The snapshot of a running service, kept true from etcd: restore what the disk holds, list, watch, hand out.

Decides nothing about rows (that is `snapshot`) and nothing about connections (that is `store.watch`).
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final, TypeAlias, cast

from aisix_common.clock import Clock
from aisix_common.logs import Logger
from aisix_common.resources import KINDS, Kind
from aisix_common.secrets.envelope import NO_KEYRING, Keyring
from aisix_common.snapshot import Snapshot, apply, build, empty, reopened, restore
from aisix_common.snapshot.sharded import differing
from aisix_common.store.client import EtcdClient
from aisix_common.store.types import Alive, Changes, Listing, Lost, WatchEvent
from aisix_common.store.watch import list_and_watch
from aisix_common.tasks import TaskOwner

from .disk_cache import DiskCache
from .journal import Journal
from .observed import FailureReason, LastFailure, LastReload, SourceStatus

Watch: TypeAlias = Callable[[EtcdClient, str], AsyncIterator[WatchEvent]]

SMALL: Final = 200
"""Rows that are read on the event loop: more would hold it for over a few milliseconds."""
UNREACHABLE: Final = "configuration source unreachable"


def _no_keyring() -> Keyring:
    return NO_KEYRING


class EtcdSource:
    """One service's view of the resources in etcd. `status()` at any time; `run()` once."""

    def __init__(
        self,
        client: EtcdClient,
        prefix: str,
        cache: DiskCache | None,
        clock: Clock,
        log: Logger,
        *,
        watch: Watch = list_and_watch,
        keyring: Callable[[], Keyring] = _no_keyring,
        kinds: Iterable[Kind[Any]] = KINDS,
    ) -> None:
        """`prefix` without a trailing slash, such as `/aisix`: only keys below it are read, not its siblings.

        `keyring` is asked whenever rows are read. `kinds` are those that lie under the prefix.
        """
        self._client = client
        self._prefix = prefix.rstrip("/")
        self._cache = cache
        self._clock = clock
        self._log = log
        self._watch = watch
        self._keyring = keyring
        self._kinds = tuple(kinds)
        self._journal = Journal(log)
        self._snapshot = empty(self._prefix, self._kinds)
        self._status = SourceStatus()
        self._failures: Counter[FailureReason] = Counter()
        self._consumer_failed = False
        self._running = False
        self._rekeyed = asyncio.Event()
        self._turn = asyncio.Lock()
        """One snapshot is made from another: one at a time."""

    @property
    def snapshot(self) -> Snapshot:
        """The newest one; empty (`apply_seq` 0) before anything was read."""
        return self._snapshot

    def status(self) -> SourceStatus:
        """What is known of the source now."""
        return replace(self._status, at=self._clock.now(), failures=dict(self._failures))

    def rekeyed(self) -> None:
        """The keyring is another one: have the same rows read under it soon, and the cache written anew. On the event
        loop; several calls may become one reading."""
        self._rekeyed.set()

    async def run(self, on_snapshot: Callable[[Snapshot], None]) -> None:
        """Keep the snapshot true until cancelled, handing each new one to `on_snapshot`.

        `on_snapshot` is called on the event loop, one call at a time; what it raises is logged, and the next snapshot
        then says `touched=None`. Raises RuntimeError when it runs already.
        """
        if self._running:
            raise RuntimeError("this source runs already")
        self._running = True
        async with TaskOwner() as tasks:
            try:
                if self._cache is not None:
                    await self._restore(self._cache, on_snapshot)
                    tasks.spawn(self._cache.run(), name="snapshot cache")
                tasks.spawn(self._reopen(on_snapshot), name="sealed secrets under a new keyring")
                events = self._watch(self._client, self._prefix + "/")
                async with aclosing(cast("Any", events)):
                    async for event in events:
                        async with self._turn:
                            await self._take(event, on_snapshot)
            finally:
                self._running = False

    async def _restore(self, cache: DiskCache, on_snapshot: Callable[[Snapshot], None]) -> None:
        now = self._clock.now()
        cached = await asyncio.to_thread(cache.load)
        if cached is None:
            return
        arguments = (cached.listing, cached.pins, self._prefix, now, self._keyring(), self._kinds)
        snapshot = await asyncio.to_thread(restore, *arguments)
        self._log.info("configuration restored from disk", revision=snapshot.revision, served=snapshot.served)
        self._status = replace(self._status, restored=True, applied_revision=snapshot.revision)
        self._hand_out(snapshot, None, on_snapshot, save=False)

    async def _take(self, event: WatchEvent, on_snapshot: Callable[[Snapshot], None]) -> None:
        match event:
            case Listing():
                await self._list(event, on_snapshot)
            case Changes():
                await self._change(event, on_snapshot)
            case Alive(revision):
                self._back()
                self._status = replace(
                    self._status,
                    connected=True,
                    observed_at=self._clock.now(),
                    observed_revision=revision,
                    applied_revision=revision,
                )
            case Lost(reason):
                self._lost(reason)

    async def _list(self, listing: Listing, on_snapshot: Callable[[Snapshot], None]) -> None:
        arguments = (listing, self._snapshot, self._clock.now(), self._keyring())
        snapshot = await asyncio.to_thread(build, *arguments) if len(listing.rows) > SMALL else build(*arguments)
        reasons: set[FailureReason] = {
            "parse" if row.failure in ("non_json", "parse_failed") else "validate" for row in snapshot.rejected.values()
        }
        self._failures.update(reasons)
        self._log.info("configuration read", revision=listing.revision, served=snapshot.served)
        self._status = replace(self._status, reloads=self._status.reloads + 1, restored=False)
        self._observe(snapshot, listing.revision, None)
        self._hand_out(snapshot, None, on_snapshot)

    async def _change(self, changes: Changes, on_snapshot: Callable[[Snapshot], None]) -> None:
        arguments = (self._snapshot, changes, self._clock.now(), self._keyring())
        snapshot = await asyncio.to_thread(apply, *arguments) if len(changes.events) > SMALL else apply(*arguments)
        keys = {event.key for event in changes.events}
        self._observe(snapshot, changes.revision, keys)
        self._hand_out(snapshot, keys, on_snapshot)

    async def _reopen(self, on_snapshot: Callable[[Snapshot], None]) -> None:
        while True:
            await self._rekeyed.wait()
            async with self._turn:
                self._rekeyed.clear()
                before = self._snapshot
                if before.apply_seq == 0:  # nothing was read yet
                    continue
                arguments = (before, self._clock.now(), self._keyring())
                many = before.served + len(before.rejected) > SMALL
                snapshot = await asyncio.to_thread(reopened, *arguments) if many else reopened(*arguments)
                self._log.info("sealed secrets read under a new keyring", rejected=len(snapshot.rejected))
                self._judge(snapshot, differing(before.rejected, snapshot.rejected))
                self._hand_out(snapshot, None, on_snapshot)

    def _observe(self, snapshot: Snapshot, revision: int, keys: Iterable[str] | None) -> None:
        """What a look at the source says of it."""
        self._back()
        self._judge(snapshot, keys)
        self._status = replace(
            self._status,
            connected=True,
            observed_revision=revision,
            observed_at=self._clock.now(),
            applied_revision=revision,
        )

    def _judge(self, snapshot: Snapshot, keys: Iterable[str] | None) -> None:
        """How well the rows were read; `keys` are those that were looked at, None: all."""
        now = self._clock.now()
        good = not len(snapshot.rejected)
        failed = [
            row
            for key in (snapshot.rejected if keys is None else keys)
            if (row := snapshot.rejected.get(key)) is not None
        ]
        failure = self._status.last_failure
        if failed:
            newest = max(failed, key=lambda row: row.revision)
            failure = LastFailure(now, newest.failure, newest.message)
        self._status = replace(
            self._status,
            last_reload=LastReload(good, now),
            last_success=now if good else self._status.last_success,
            last_failure=failure,
        )

    def _back(self) -> None:
        if not self._status.connected and self._status.last_failure is not None:
            self._log.info("etcd answers again")

    def _lost(self, reason: str) -> None:
        now = self._clock.now()
        if self._status.connected or self._status.last_failure is None:
            self._log.warning("etcd is lost: what was read last is served on", reason=reason)
        self._failures["fetch"] += 1
        self._status = replace(
            self._status,
            connected=False,
            reloads=self._status.reloads + 1,
            last_failure=LastFailure(now, "fetch", UNREACHABLE),
        )

    def _hand_out(
        self, snapshot: Snapshot, keys: set[str] | None, on_snapshot: Callable[[Snapshot], None], *, save: bool = True
    ) -> None:
        before, self._snapshot = self._snapshot, snapshot
        self._journal.record(before, snapshot, keys)
        if self._cache is not None and save:
            self._cache.note(snapshot, keys)
        try:
            on_snapshot(replace(snapshot, touched=None) if self._consumer_failed else snapshot)
        except Exception:  # noqa: BLE001 - a mistake of the consumer must not end the flow of changes
            self._consumer_failed = True
            self._log.exception("a new configuration could not be put to use: the one before is served on")
        else:
            self._consumer_failed = False
