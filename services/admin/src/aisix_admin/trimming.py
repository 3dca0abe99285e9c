"""Keeps history and audit within their share of etcd's small disk (design 5): the oldest go first.

One pass reads keys and sizes page by page and keeps none of the rows. Passes are rare: at the start, every ten minutes,
and when this process has written a good part of the cap since the last one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Final

from aisix_common.clock import Clock
from aisix_common.errors import StoreError
from aisix_common.logs import Logger
from aisix_common.store.types import Compare, Delete, Operation, unchanged

from .audit import older_than
from .rows import MOST_TOGETHER, Etcd, Roots

HISTORY_BYTES: Final = 128 * 1024 * 1024
AUDIT_BYTES: Final = 64 * 1024 * 1024
INTERVAL_SECONDS: Final = 600.0
LOOK_SECONDS: Final = 5.0
_PAGE: Final = 200
_HISTORY_PAGE: Final = 40
"""Histories are large: a page of them is at most 10 MiB, so that a slow etcd can answer in time."""
_PART: Final = 16
"""A pass is made early when this part of a cap was written since the last one."""


class Trimmer:
    """`run` is to be owned by a task for the life of the service; `wrote` is told what was added."""

    def __init__(
        self,
        client: Etcd,
        roots: Roots,
        clock: Clock,
        log: Logger,
        *,
        audit_days: int = 90,
        history_bytes: int = HISTORY_BYTES,
        audit_bytes: int = AUDIT_BYTES,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._roots = roots
        self._clock = clock
        self._log = log
        self._days = audit_days
        self._history_bytes = history_bytes
        self._audit_bytes = audit_bytes
        self._sleep = sleep
        self._written = 0

    def wrote(self, size: int) -> None:
        """So many bytes of history and audit were written."""
        self._written += size

    async def run(self) -> None:
        """Trim now and then until cancelled. What goes wrong is logged and tried again."""
        while True:
            try:
                await self.trim()
            except StoreError as error:
                self._log.warning("history and audit could not be trimmed; trying again later", reason=str(error))
            waited = 0.0
            soon = max(min(self._history_bytes, self._audit_bytes) // _PART, 1)
            while waited < INTERVAL_SECONDS and self._written < soon:
                await self._sleep(LOOK_SECONDS)
                waited += LOOK_SECONDS

    async def trim(self) -> None:
        """One pass over both. Raises StoreError."""
        self._written = 0
        await self._trim_audit()
        await self._trim_history()

    async def _trim_audit(self) -> None:
        """Newest first by key: what comes after the cap is full, or is older than its time, goes."""
        prefix = self._roots.audit("")
        oldest = prefix + older_than(self._clock.now() - timedelta(days=self._days))
        size, after, doomed = 0, "", 0
        while True:
            page = await self._client.page(prefix, after=after, limit=_PAGE)
            gone: list[tuple[str, int]] = []
            for row in page.rows:
                size += len(row.key) + len(row.value)
                if size > self._audit_bytes or row.key >= oldest:
                    gone.append((row.key, row.mod_revision))
                after = row.key
            doomed += await self._delete(gone)
            if len(page.rows) < _PAGE:
                break
        if doomed:
            self._log.info("old audit rows were deleted", rows=doomed)

    async def _trim_history(self) -> None:
        """Whole histories go, those first that were not written for the longest."""
        prefix = f"{self._roots.run}/history/"
        rows: list[tuple[int, int, str]] = []
        size, after = 0, ""
        while True:
            page = await self._client.page(prefix, after=after, limit=_HISTORY_PAGE)
            for row in page.rows:
                size += len(row.key) + len(row.value)
                rows.append((row.mod_revision, len(row.key) + len(row.value), row.key))
                after = row.key
            if len(page.rows) < _HISTORY_PAGE:
                break
        gone: list[tuple[str, int]] = []
        for revision, length, key in sorted(rows) if size > self._history_bytes else ():
            if size <= self._history_bytes:
                break
            size -= length
            gone.append((key, revision))
        if deleted := await self._delete(gone):
            self._log.warning("histories were deleted to stay within their share of etcd", resources=deleted)

    async def _delete(self, gone: Sequence[tuple[str, int]]) -> int:
        """Delete rows that are still what was read, in parts; a part of which one was written or deleted since is left
        for the next pass. How many were deleted."""
        deleted = 0
        for begin in range(0, len(gone), MOST_TOGETHER):
            part = gone[begin : begin + MOST_TOGETHER]
            compare: list[Compare] = [unchanged(key, revision) for key, revision in part]
            delete: list[Operation] = [Delete(key) for key, _ in part]
            if (await self._client.txn(compare, delete)).succeeded:
                deleted += len(part)
        return deleted
