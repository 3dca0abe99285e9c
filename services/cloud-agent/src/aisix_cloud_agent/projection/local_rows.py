"""The local etcd as the projection sees it: what stands there, and the transactions of a plan, fenced by the lead.

The projection row is read before the rows, so that no transaction of somebody else - or one of ours whose answer was
lost - comes between them unnoticed: the fence compares that row.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

from aisix_common.errors import AisixError, StoreError, StoreRejected
from aisix_common.managed.projected import Standing, epoch_key, projection_key, standing
from aisix_common.secrets.canary import canary_key, canary_row, verify
from aisix_common.secrets.envelope import Keyring
from aisix_common.store.client import EtcdClient
from aisix_common.store.pages import pages
from aisix_common.store.types import Compare, Delete, KeyValue, Operation, Put, unchanged

from ..lead.lead import Lead, LeadLost
from .layout import Layout
from .markers import Fence
from .metrics import ProjectionMetrics
from .planning import Plan
from .steps import Step

AT_ONCE: Final = 50
"""Rows that are planned and sealed on the event loop; more would hold it for too long."""
_TOGETHER: Final = 100
"""Rows that are read at the same time."""


class Conflict(AisixError):
    """A transaction was not done, as something else was written meanwhile: plan anew."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What a plan stands on, as it was read or written last."""

    standing: Standing
    keyring: Keyring
    canary: int = 0
    """mod_revision of the row that tells which keyring everybody's secrets are sealed with; 0: there is none."""
    cannot_seal: str = ""
    """Why `keyring` is not that one, for operators."""


class LocalRows:
    """Reads and writes for one lead. Raises StoreError when etcd does not do it: the outcome is open then."""

    def __init__(self, client: EtcdClient, layout: Layout, lead: Lead, metrics: ProjectionMetrics) -> None:
        self._client = client
        self._layout = layout
        self._lead = lead
        self._metrics = metrics

    async def ground(self, keyring: Keyring) -> Ground:
        """What stands there now. Raises LeadLost."""
        run = self._layout.run
        (projection, canary, epoch), _ = await self._client.together(
            (projection_key(run), canary_key(run), epoch_key(run))
        )
        self._check(epoch)
        wrong = verify(canary.value, keyring) if canary is not None and keyring else None
        return Ground(standing(projection), keyring, canary.mod_revision if canary is not None else 0, wrong or "")

    async def pages(self) -> AsyncGenerator[tuple[KeyValue, ...], None]:
        """All rows under the local roots, page by page."""
        for prefix in self._layout.local_prefixes:
            async with aclosing(pages(self._client, prefix)) as read:
                async for page in read:
                    yield page.rows

    async def rows(self, keys: Iterable[str]) -> dict[str, KeyValue]:
        """Those of these rows that there are, by key."""
        wanted = list(keys)
        found: dict[str, KeyValue] = {}
        for start in range(0, len(wanted), _TOGETHER):
            rows, _ = await self._client.together(wanted[start : start + _TOGETHER])
            found.update((row.key, row) for row in rows if row is not None)
        return found

    async def commit(self, plan: Plan, ground: Ground) -> Ground:
        """Do a plan, transaction by transaction; what it stands on then. Raises LeadLost and Conflict."""
        layout, standing = self._layout, ground.standing
        fence = Fence.at(standing, epoch=self._lead.epoch, canary=ground.canary)
        while (step := await _next(plan)) is not None:
            if step.sealed and not fence.canary:
                fence = replace(fence, canary=await self._make_canary(ground.keyring))
            marker = step.marked(fence, layout.resources, layout.ext)
            revision = await self._transaction(*step.transaction(fence, marker, layout.run))
            fence, standing = fence.after(revision, marker), Standing(marker, revision)
            puts = sum(isinstance(each, Put) for each in step.operations)
            self._metrics.written(puts, len(step.operations) - puts)
        return replace(ground, standing=standing, canary=fence.canary)

    async def remove(self, keys: Iterable[str]) -> int:
        """Delete rows beside any plan; the projection row stays as it is. Returns how many there were.

        Raises LeadLost and Conflict.
        """
        there = list(await self.rows(keys))
        for start in range(0, len(there), _TOGETHER):
            gone = there[start : start + _TOGETHER]
            try:
                await self._transaction([self._lead.fence(self._layout.run)], map(Delete, gone))
            except StoreRejected:
                await self._remove_from_full(gone)
            self._metrics.written(0, len(gone))
        return len(there)

    async def _remove_from_full(self, keys: Iterable[str]) -> None:
        """An etcd that is full refuses every transaction, and takes plain deletes. What fences those is that the epoch
        was read a moment ago, and our own clock: too little for a write, enough for a row that was revoked."""
        for key in keys:
            self._check(await self._client.get(epoch_key(self._layout.run)))
            self._lead.require()
            await self._client.delete(key)

    async def _make_canary(self, keyring: Keyring) -> int:
        key = canary_key(self._layout.run)
        compares = [self._lead.fence(self._layout.run), unchanged(key, 0)]
        return await self._transaction(compares, [Put(key, canary_row(keyring))])

    async def _transaction(self, compares: list[Compare], operations: Iterable[Operation]) -> int:
        """Returns its revision."""
        self._lead.require()
        try:
            result = await self._client.txn(compares, list(operations))
        except StoreError:
            self._metrics.transaction("failed")
            raise
        if result.succeeded:
            self._metrics.transaction("committed")
            return result.revision
        self._metrics.transaction("refused")
        self._check(await self._client.get(epoch_key(self._layout.run)))
        raise Conflict("the local rows were written by somebody else meanwhile")

    def _check(self, epoch: KeyValue | None) -> None:
        if epoch is None or epoch.mod_revision != self._lead.epoch:
            raise LeadLost("another cloud agent has taken the lead")


async def _next(plan: Plan) -> Step | None:
    if plan.puts + plan.deletes <= AT_ONCE:
        return next(plan.steps, None)
    return await asyncio.to_thread(next, plan.steps, None)
