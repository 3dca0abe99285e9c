"""Which caller keys are in use here, told to the agent: this instance's rows under `<run root>/budgets/asked/`.

A new key is told of within milliseconds, one that is idle is taken out within seconds. The rows hang on the instance's
lease: they go with it, and are written again under the next one.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final, NoReturn

import msgspec

from aisix_common.errors import StoreError
from aisix_common.logs import Logger
from aisix_common.managed.budgets import ACTIVE_SECONDS, MOST_KEYS, Asked, asked_key, shard_of
from aisix_common.store.backoff import Backoff
from aisix_common.store.client import EtcdClient
from aisix_common.store.types import Delete, Put

COALESCE_SECONDS: Final = 0.005
"""New keys that come that close together share one write."""
IDLE_SECONDS: Final = 5.0
"""How often idle keys are taken out, and the lease is looked at."""
NO_LEASE_SECONDS: Final = 0.05
MOST_BYTES: Final = 512 * 1024
"""Of one transaction: etcd takes three times as much."""
BURST_BYTES: Final = 1024 * 1024
BYTES_A_SECOND: Final = 64 * 1024
"""Of rows in the long run: where thousands of keys come and go all the time, etcd keeps each version until it is
compacted, and has 2 GB for all proxies."""


class Asking:
    """The keys in use. `use` is for the event loop; `run` is a background task."""

    def __init__(
        self,
        client: EtcdClient,
        run_root: str,
        instance: str,
        lease: Callable[[], int],
        log: Logger,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`lease`: the instance's lease now, 0 while it has none."""
        self._client = client
        self._run_root = run_root
        self._instance = instance
        self._lease = lease
        self._log = log
        self._monotonic = monotonic
        self._used: OrderedDict[str, float] = OrderedDict()
        """When each key was used last, the least recent first."""
        self._shards: dict[int, dict[str, None]] = {}
        self._stale: set[int] = set()
        """Shards whose row does not say what it should."""
        self._leased = 0
        """The lease that the rows hang on."""
        self._allowance = float(BURST_BYTES)
        self._allowed_at = monotonic()
        self._moved = asyncio.Event()
        self._troubled = False

    def __len__(self) -> int:
        return len(self._used)

    def __contains__(self, api_key_id: str) -> bool:
        return api_key_id in self._used

    def use(self, api_key_id: str) -> bool:
        """The key is used now. Whether it was in use already."""
        used = self._used
        known = api_key_id in used
        used[api_key_id] = self._monotonic()
        if known:
            used.move_to_end(api_key_id)
            return True
        if len(used) > MOST_KEYS:
            self._take_out()
        shard = shard_of(api_key_id)
        self._shards.setdefault(shard, {})[api_key_id] = None
        self._stale.add(shard)
        self._moved.set()
        return False

    def rewrite(self) -> None:
        """etcd may have forgotten the rows: write them all again."""
        self._stale.update(self._shards)
        self._moved.set()

    async def run(self) -> NoReturn:
        """Keep the rows true until cancelled. etcd away is told once, and tried again."""
        backoff = Backoff(0.1, 2.0)
        pruned = self._monotonic()
        while True:
            await self._something_to_do()
            if self._monotonic() - pruned >= IDLE_SECONDS:
                self._take_out_idle()
                pruned = self._monotonic()
            lease = self._lease()
            if not lease:
                continue
            if lease != self._leased:
                self._stale.update(self._shards)
            if not self._stale:
                self._leased = lease
                continue
            try:
                await self._write(lease)
            except StoreError as error:
                self._trouble(str(error))
                await asyncio.sleep(backoff.delay())
            else:
                self._leased = lease
                self._trouble("")
                backoff.reset()
                await self._pace()

    async def _something_to_do(self) -> None:
        if self._stale and not self._lease():
            await asyncio.sleep(NO_LEASE_SECONDS)
            return
        if not self._stale:
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    await self._moved.wait()
            except TimeoutError:
                return  # for what nobody tells of: idle keys, another lease
        if self._moved.is_set():
            await asyncio.sleep(COALESCE_SECONDS)
            self._moved.clear()

    async def _pace(self) -> None:
        """Wait for as long as more was written than may be."""
        now = self._monotonic()
        self._allowance = min(self._allowance + (now - self._allowed_at) * BYTES_A_SECOND, BURST_BYTES)
        self._allowed_at = now
        if self._allowance < 0:
            await asyncio.sleep(-self._allowance / BYTES_A_SECOND)

    def _take_out(self) -> None:
        """The key that was used least recently is not asked for any more."""
        gone, _ = self._used.popitem(last=False)
        shard = shard_of(gone)
        self._shards[shard].pop(gone, None)
        self._stale.add(shard)

    def _take_out_idle(self) -> None:
        limit = self._monotonic() - ACTIVE_SECONDS
        while self._used and next(iter(self._used.values())) < limit:
            self._take_out()

    async def _write(self, lease: int) -> None:
        """All rows that are not true, in as few transactions as go. Raises StoreError; what it did not write stays."""
        for shards, operations in self._batches(lease):
            self._stale.difference_update(shards)  # a key that comes meanwhile makes it stale again
            try:
                self._allowance -= sum(len(each.value) for each in operations if isinstance(each, Put))
                await self._client.txn((), operations)
            except BaseException:
                self._stale.update(shards)
                raise

    def _batches(self, lease: int) -> Iterator[tuple[list[int], list[Put | Delete]]]:
        shards: list[int] = []
        operations: list[Put | Delete] = []
        size = 0
        for shard in sorted(self._stale):
            operation = self._row(shard, lease)
            more = len(operation.value) if isinstance(operation, Put) else 0
            if operations and size + more > MOST_BYTES:
                yield shards, operations
                shards, operations, size = [], [], 0
            shards.append(shard)
            operations.append(operation)
            size += more
        if operations:
            yield shards, operations

    def _row(self, shard: int, lease: int) -> Put | Delete:
        key = asked_key(self._run_root, shard, self._instance)
        ids = self._shards.get(shard)
        return Put(key, msgspec.json.encode(Asked(tuple(ids))), lease) if ids else Delete(key)

    def _trouble(self, reason: str) -> None:
        if reason and not self._troubled:
            self._log.warning("caller keys in use cannot be told to the agent: budgets get old", reason=reason)
        elif not reason and self._troubled:
            self._log.info("the agent is told of caller keys in use again")
        self._troubled = bool(reason)
