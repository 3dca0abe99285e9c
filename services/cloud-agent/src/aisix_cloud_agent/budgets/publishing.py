"""Decisions into etcd: read once at the start, then written as `rows` has it, in fenced transactions."""

import asyncio
from random import Random
from typing import Final, NoReturn

from aisix_common.errors import StoreError
from aisix_common.logs import Logger
from aisix_common.managed.budgets import decided_root
from aisix_common.store.backoff import Backoff
from aisix_common.store.client import EtcdClient
from aisix_common.store.types import Delete, Put

from ..flow.told import Told
from ..flow.waiting import Time, never
from ..lead.lead import Lead, LeadLost
from .rows import DecidedRows

COALESCE_SECONDS: Final = 0.01
"""Decisions that come that close together are one write."""
MOST_BYTES: Final = 512 * 1024
"""Of one transaction; etcd takes 1.5 MiB."""
BYTES_A_SECOND: Final = 8 * 1024 * 1024
"""Of all rows, so that thousands of keys that come at once do not fill etcd with every step between."""
_PAGE: Final = 8
"""Rows that are read at once: one may hold hundreds of KiB."""
_IDLE_SECONDS: Final = 60.0


class BudgetPublishing:
    """The only writer of `<run root>/budgets/decided/`, while `lead` lasts."""

    def __init__(self, local: EtcdClient, run_root: str, lead: Lead, time: Time, chance: Random, log: Logger) -> None:
        self._local = local
        self._run_root = run_root
        self._lead = lead
        self._time = time
        self._backoff = Backoff(0.1, 2.0, chance)
        self._moved = asyncio.Event()
        self._etcd = Told(
            log, "budget decisions cannot be read or written; they grow old", "budget decisions can be written again"
        )

    @property
    def trouble(self) -> str:
        """Why nothing is written; empty: all is well."""
        return self._etcd.trouble

    def moved(self) -> None:
        """There may be something to write."""
        self._moved.set()

    async def load(self, rows: DecidedRows) -> None:
        """Take up what lies in etcd, however long that takes. Raises LeadLost."""
        after = ""
        while True:
            self._lead.require()
            try:
                page = await self._local.page(decided_root(self._run_root), after=after, limit=_PAGE)
            except StoreError as error:
                await self._failed(error)
                continue
            self._well()
            for row in page.rows:
                rows.load(self._run_root, row, self._time.monotonic())
                after = row.key
            if not page.more:
                return

    async def run(self, rows: DecidedRows) -> NoReturn:
        """Write what is due, for ever. Raises LeadLost."""
        while True:
            while not rows.due(self._time.monotonic()):
                self._moved.clear()
                seconds = max(rows.next_due() - self._time.monotonic(), 0.0)
                await self._time.wait(self._moved, min(seconds, _IDLE_SECONDS))
            await self._time.wait(never(), COALESCE_SECONDS)
            try:
                size = await self._write(rows)
            except StoreError as error:
                await self._failed(error)
            else:
                self._well()
                await self._time.wait(never(), max(size / BYTES_A_SECOND - COALESCE_SECONDS, 0.0))

    async def _write(self, rows: DecidedRows) -> int:
        """Bytes that were written. Raises StoreError: what was not written stays due."""
        size = 0
        for operations, written in rows.transactions(self._run_root, rows.due(self._time.monotonic()), MOST_BYTES):
            await self._commit(operations)
            rows.written(written, self._time.monotonic())
            size += written.size
        return size

    async def _commit(self, operations: list[Put | Delete]) -> None:
        fence = self._lead.fence(self._run_root)
        result = await self._local.txn([fence], operations)
        if not result.succeeded:
            raise LeadLost("another agent leads")

    async def _failed(self, error: StoreError) -> None:
        self._etcd.began(str(error))
        await self._time.wait(never(), self._backoff.delay())

    def _well(self) -> None:
        self._etcd.ended()
        self._backoff.reset()
