"""The proxy instances as the agent sees them: which are there, and which revision of the Cloud each has applied.

Made of the leased rows under `<run root>/instances/` and of the projection row (`applied`), each followed with a watch
of its own. `Roster` is pure; `Instances` feeds it. Knows nothing of heartbeats.
"""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import msgspec

from aisix_common.errors import StoreError
from aisix_common.logs import get_logger
from aisix_common.managed.projected import projection_key, standing
from aisix_common.store.client import EtcdClient
from aisix_common.store.types import Alive, Deleted, KeyValue, Listing, Lost, WatchEvent
from aisix_common.store.watch import list_and_watch
from aisix_common.tasks import TaskOwner

from .applied import Applied, applied_then

MOST_INSTANCES: Final = 1000
_log = get_logger(__name__)


class RejectedRow(msgspec.Struct, frozen=True):
    """A row that an instance does not serve."""

    kind: str = ""
    id: str = ""
    reason: str = ""
    failure: str = ""
    """The class of the failure, such as `schema_failed`."""
    at: int = 0
    """Unix seconds."""
    stale_since: int | None = None
    external: bool = False
    """Whether it lies under the ext root."""
    key: str = ""
    """Its key below the root, where that shows neither kind nor id."""


class UnknownField(msgspec.Struct, frozen=True):
    """A field that rows carry and the instance does not know."""

    kind: str = ""
    field: str = ""
    count: int = 0


class InstanceRow(msgspec.Struct, frozen=True):
    """What an instance writes about itself. Everything may be missing: other versions write these rows, too."""

    service: str = ""
    hostname: str = ""
    version: str = ""
    started_at: str = ""
    applied_revision: int = 0
    """Local, of the resource root."""
    external_revision: int = 0
    """The same of the ext root."""
    config_hash: str = ""
    supported_guardrail_kinds: tuple[str, ...] = ()
    rejected: tuple[RejectedRow, ...] = ()
    partially_compatible: tuple[UnknownField, ...] = ()


@dataclass(frozen=True, slots=True)
class News:
    """Ids of the instances that a watch event tells of."""

    came: frozenset[str] = frozenset()
    went: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()


class Roster:
    """The proxies that are there. Pure: events of the watch in, news out."""

    def __init__(self) -> None:
        self._live: dict[str, InstanceRow] = {}
        self._damaged: set[str] = set()

    @property
    def live(self) -> Mapping[str, InstanceRow]:
        """By instance id, which is the last part of the row's key."""
        return self._live

    @property
    def damaged(self) -> frozenset[str]:
        """Ids whose row as it is now cannot be read; what is known of them from before stays."""
        return frozenset(self._damaged)

    @property
    def full(self) -> bool:
        """Whether no more can be followed: others that come are left out."""
        return len(self._live) >= MOST_INSTANCES

    def take(self, event: WatchEvent) -> News:
        """What `event` changes."""
        if isinstance(event, Lost | Alive):
            return News()
        written: dict[str, KeyValue | None] = {}
        if isinstance(event, Listing):
            written = dict.fromkeys((*self._live, *self._damaged))
            written |= {_id(row.key): row for row in event.rows}
        else:
            written = {_id(each.key): None if isinstance(each, Deleted) else each for each in event.events}
        before = {id: self._live.get(id) for id in written}
        for id, row in written.items():
            if row is None:
                self._live.pop(id, None)
                self._damaged.discard(id)
            else:
                self._written(id, row.value)
        after = {id: self._live.get(id) for id in written}
        return News(
            frozenset(id for id in written if before[id] is None and after[id] is not None),
            frozenset(id for id in written if before[id] is not None and after[id] is None),
            frozenset(id for id in written if None not in (before[id], after[id]) and before[id] != after[id]),
        )

    def _written(self, id: str, value: bytes) -> None:
        try:
            row = msgspec.json.decode(value, type=InstanceRow)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            if len(self._damaged) < MOST_INSTANCES:
                self._damaged.add(id)
            return
        self._damaged.discard(id)
        if row.service != "proxy":
            self._live.pop(id, None)
        elif id in self._live or not self.full:
            self._live[id] = row


class Instances:
    """Follows the instances. `run` is owned by a task for the life of the agent, whether it leads or not."""

    def __init__(self, client: EtcdClient, run_root: str) -> None:
        self._client = client
        self._prefix = f"{run_root}/instances/"
        self._projection = projection_key(run_root)
        self._roster = Roster()
        self._applied = Applied()
        self._asked: dict[str, tuple[int, int, int]] = {}
        """What the past told of an instance: its two local revisions, and the Cloud's."""
        self._moved = asyncio.Event()
        self._projected = asyncio.Event()
        """The projection row was read."""
        self._full = False

    @property
    def live(self) -> Mapping[str, InstanceRow]:
        """The proxies that are there, by instance id."""
        return self._roster.live

    @property
    def damaged(self) -> int:
        """Rows that cannot be read."""
        return len(self._roster.damaged)

    async def run(self) -> None:
        """Follow until cancelled."""
        async with TaskOwner() as own:
            own.spawn(self._follow_projection(), name="the projection row")
            await self._projected.wait()  # nobody seems to have applied nothing because we have not looked yet
            await self._follow_instances()

    async def moved(self) -> None:
        """Return when an instance came or went after this was called."""
        await self._moved.wait()

    async def cloud_revision(self, id: str, env_id: str) -> int:
        """The revision of the Cloud that an instance has applied of this environment; 0: none, or not known."""
        row = self._roster.live.get(id)
        if row is None or self._applied.env_id != env_id:
            return 0
        at = (row.applied_revision, row.external_revision)
        known = self._applied.of(*at)
        if known is not None:
            self._asked.pop(id, None)
            return known
        before = self._asked.get(id)
        if before is not None and before[:2] == at:
            return before[2]
        try:
            found = await self._past(*at)
        except StoreError:  # compacted, or not to be had: what it had applied before is not too much
            return before[2] if before is not None else 0
        if id in self._roster.live:
            self._asked[id] = (*at, found)
        return found

    async def _past(self, applied: int, external: int) -> int:
        """As the projection row stood when an instance's rows were those. Raises StoreError."""
        for revision in sorted({applied, min(applied, external)}, reverse=True):
            if revision > 0:
                answer = await self._client.page(self._projection, limit=1, revision=revision)
                row = next((each for each in answer.rows if each.key == self._projection), None)
                found = applied_then(standing(row), self._applied.env_id, applied, external)
                if found is not None:
                    return found
        return 0

    async def _follow_instances(self) -> None:
        async with aclosing(list_and_watch(self._client, self._prefix)) as events:
            async for event in events:
                damaged = self._roster.damaged
                news = self._roster.take(event)
                for id in self._roster.damaged - damaged:
                    _log.warning("the row of an instance cannot be read", instance=id[:64])
                for id in news.went:
                    self._asked.pop(id, None)
                if news.came or news.went:
                    self._tell()
                if self._roster.full and not self._full:
                    _log.warning("there are more instances than can be followed", most=MOST_INSTANCES)
                self._full = self._roster.full

    async def _follow_projection(self) -> None:
        async with aclosing(list_and_watch(self._client, self._projection)) as events:
            async for event in events:
                if isinstance(event, Listing):
                    row = next((each for each in event.rows if each.key == self._projection), None)
                    self._asked.clear()
                    self._applied.begin(standing(row))
                    self._projected.set()
                elif not isinstance(event, Lost | Alive):
                    for change in event.events:
                        if change.key == self._projection:
                            self._applied.take(standing(None if isinstance(change, Deleted) else change))

    def _tell(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()


def _id(key: str) -> str:
    return key.rpartition("/")[2]
