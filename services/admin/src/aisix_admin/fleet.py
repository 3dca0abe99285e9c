"""The proxies as the admin sees them: who is there, who was lost, and how far each has come (design 5).

Made of the leased rows under `<run root>/instances/`, followed with a watch of its own. Knows no HTTP and no resource.
"""

import asyncio
import math
import re
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias, TypedDict, cast

import msgspec

from aisix_common.clock import Clock, rfc3339
from aisix_common.logs import Logger
from aisix_common.model_status import ModelNews, worst
from aisix_common.store.types import Alive, Deleted, Listing, Lost, WatchEvent

REMEMBERED: Final = timedelta(minutes=10)
"""How long an instance that was lost is still counted."""
MOST_LOST: Final = 1000
LONGEST_WAIT: Final = 30.0

Needs: TypeAlias = Mapping[bool, int]
"""Up to which revision a proxy must have applied each root: the resources' (False) and the ext root (True)."""

_WAIT: Final = re.compile(r"(?P<number>[0-9]{1,6}(?:\.[0-9]{1,6})?)(?P<unit>ms|s|)")


class Rejected(msgspec.Struct, frozen=True):
    """A row that an instance does not serve."""

    kind: str = ""
    id: str = ""
    reason: str = ""


class InstanceRow(msgspec.Struct, frozen=True):
    """What an instance writes about itself. Everything may be missing: other versions write these rows, too."""

    instance: str = ""
    service: str = ""
    hostname: str = ""
    version: str = ""
    started_at: str = ""
    worker: int | None = None
    applied_revision: int = 0
    external_revision: int = 0
    connected: bool = False
    restored: bool = False
    config_hash: str = ""
    rejected_count: int = 0
    rejected: tuple[Rejected, ...] = ()
    models: Mapping[str, int] = {}
    reasons: Mapping[str, str] = {}
    stopping: bool = False


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance. `id` is what stands in the key of its row."""

    id: str
    row: InstanceRow
    lost_at: datetime | None = None
    """When its row went away without a word; None: it is there."""

    def shown(self) -> dict[str, Any]:
        """As `/admin/v1/instances` tells of it."""
        row = self.row
        lost = {} if self.lost_at is None else {"lost_at": rfc3339(self.lost_at)}
        return {
            "instance": self.id,
            "service": row.service,
            "hostname": row.hostname,
            "worker": row.worker,
            "version": row.version,
            "started_at": row.started_at,
            "connected": row.connected and self.lost_at is None,
            "restored": row.restored,
            "stopping": row.stopping,
            "applied_revision": row.applied_revision,
            "config_hash": row.config_hash,
            "rejected_count": row.rejected_count,
            "rejected": [{"kind": each.kind, "id": each.id, "reason": each.reason} for each in row.rejected],
            "models": {
                name: {"health": level, **({"reason": row.reasons[name]} if name in row.reasons else {})}
                for name, level in row.models.items()
            },
            **lost,
        }


class Receipt(TypedDict):
    """How many of the counted instances have applied a revision."""

    instances: int
    of: int
    revision: int


class Fleet:
    """Knows the instances. `run` is to be owned by a task for the life of the service."""

    def __init__(self, events: Callable[[], AsyncIterator[WatchEvent]], clock: Clock, log: Logger) -> None:
        self._events = events
        self._clock = clock
        self._log = log
        self._live: dict[str, Instance] = {}
        self._lost: OrderedDict[str, Instance] = OrderedDict()
        """In the order they were lost."""
        self._connected: bool | None = None
        self._moved = asyncio.Event()

    async def run(self) -> None:
        """Follow until cancelled."""
        generator = cast("AsyncGenerator[WatchEvent, None]", self._events())
        async with aclosing(generator) as events:
            async for event in events:
                self._take(event)

    def live(self) -> list[Instance]:
        """The instances that are there, by host, worker and id."""
        return sorted(self._live.values(), key=_order)

    def lost(self) -> list[Instance]:
        """Those lost within the last ten minutes, the newest first."""
        self._forget_old()
        return list(reversed(self._lost.values()))

    def news(self) -> ModelNews:
        """How the models are doing: the worst any live proxy sees."""
        return worst(ModelNews(one.row.models, one.row.reasons) for one in self.live())

    async def receipt(self, revision: int, seconds: float, needs: Needs | None = None) -> Receipt:
        """How many proxies serve `revision`, of how many there should be; when all do, or after `seconds`.

        `needs`: the revision of each root that makes it so; None: `revision` of the resources. Those lost within the
        last ten minutes are counted among those that should. Nobody there: 0 of 0, at once.
        """
        wanted = {False: revision} if needs is None else needs
        try:
            async with asyncio.timeout(seconds):
                while not self._all_applied(wanted):
                    await self._moved.wait()
        except TimeoutError:
            pass  # the numbers say so
        applied, counted = self._count(wanted)
        return {"instances": applied, "of": counted, "revision": revision}

    def _all_applied(self, needs: Needs) -> bool:
        if self._connected is None:
            return False  # nothing is known yet
        applied, counted = self._count(needs)
        return applied == counted

    def _count(self, needs: Needs) -> tuple[int, int]:
        self._forget_old()
        # One that stops is about to be gone, and serves what it began only.
        counted = [one for one in self._live.values() if _is_proxy(one) and not one.row.stopping]
        applied = sum(one.row.connected and _serves(one.row, needs) for one in counted)
        return applied, len(counted) + sum(map(_is_proxy, self._lost.values()))

    def _take(self, event: WatchEvent) -> None:
        if isinstance(event, Lost):
            if self._connected is not False:
                self._log.warning("the instances cannot be followed; trying on", reason=event.reason)
            self._connected = False
            return
        self._connected = True
        if isinstance(event, Alive):
            return
        if isinstance(event, Listing):
            there = {_id(row.key): row.value for row in event.rows}
            for id in [id for id in self._live if id not in there]:
                self._gone(id)
            for id, value in there.items():
                self._written(id, value)
        else:
            for change in event.events:
                if isinstance(change, Deleted):
                    self._gone(_id(change.key))
                else:
                    self._written(_id(change.key), change.value)
        self._moved.set()
        self._moved = asyncio.Event()

    def _written(self, id: str, value: bytes) -> None:
        try:
            row = msgspec.json.decode(value, type=InstanceRow)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self._log.warning("the row of an instance cannot be read", instance=id[:64])
            return  # it stays what it was: one bad row must not hide anything
        known = self._live.get(id)
        if known is not None and known.row.stopping and not row.stopping:
            row = msgspec.structs.replace(
                row, stopping=True
            )  # an older write that came late: nobody comes back from it
        self._live[id] = Instance(id, row)
        self._lost.pop(id, None)

    def _gone(self, id: str) -> None:
        one = self._live.pop(id, None)
        if one is None or one.row.stopping:
            return
        self._lost[id] = replace(one, lost_at=self._clock.now())
        if len(self._lost) > MOST_LOST:
            self._lost.popitem(last=False)
        self._log.warning("an instance was lost", instance=id[:64], service=one.row.service, hostname=one.row.hostname)

    def _forget_old(self) -> None:
        oldest = self._clock.now() - REMEMBERED
        while self._lost:
            id, one = next(iter(self._lost.items()))
            if one.lost_at is None or one.lost_at >= oldest:
                return
            del self._lost[id]


def parse_wait(text: str) -> float:
    """`5s`, `500ms` or `5` as seconds, 0 to 30. Raises ValueError with the rule."""
    match = _WAIT.fullmatch(text)
    seconds = math.inf if match is None else float(match["number"]) / (1000 if match["unit"] == "ms" else 1)
    if seconds > LONGEST_WAIT:
        raise ValueError("must be a time from 0 to 30 seconds, such as 5s or 500ms")
    return seconds


def _id(key: str) -> str:
    return key.rpartition("/")[2]


def _serves(row: InstanceRow, needs: Needs) -> bool:
    return all(
        (row.external_revision if external else row.applied_revision) >= revision
        for external, revision in needs.items()
    )


def _is_proxy(one: Instance) -> bool:
    return one.row.service in ("", "proxy")


def _order(one: Instance) -> tuple[str, str, int, str]:
    return one.row.service, one.row.hostname, -1 if one.row.worker is None else one.row.worker, one.id
