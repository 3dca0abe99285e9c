"""What comes from the Cloud's etcd: whole lists at one revision, and what its watches bring, in one bounded inbox.

Decides nothing about rows (that is `planning`). The roots are told apart by their place in `layout.cloud_prefixes`.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from heapq import merge
from operator import attrgetter
from typing import Final, TypeAlias

from aisix_common.errors import AisixError, StoreDenied, StoreError, StoreRejected
from aisix_common.store.client import EtcdClient
from aisix_common.store.pages import pages
from aisix_common.store.types import Changes, Deleted, KeyValue, Listing
from aisix_common.store.watch import WatchTuning

Event: TypeAlias = KeyValue | Deleted

TUNING: Final = WatchTuning(page=1000)
"""Small pages: one as etcd's message and as our rows lies in memory beside all the others."""
MOST_EVENTS: Final = 2000
MOST_BYTES: Final = 4 * 1024 * 1024
"""Of what waits in an inbox; a revision that is larger waits alone."""
FEW: Final = 16
"""Revisions that wait and are still projected one by one."""
GROUP_EVENTS: Final = 90
GROUP_BYTES: Final = 256 * 1024
"""Of revisions that are projected together: no more than fits into one transaction, whatever is sealed in them."""


class CloudAway(AisixError):
    """The Cloud's etcd gave no list. For operators; nothing follows from it for the rows."""


class CloudDenies(CloudAway):
    """It refused our certificate, or one of the roots."""


async def serves_ext(client: EtcdClient, prefixes: Sequence[str]) -> bool:
    """Whether the Cloud lets us read the second of `prefixes`, the ext root. Raises CloudAway unless it answers, and
    CloudDenies where it lets us read nothing at all."""
    try:
        await _look_at(client, prefixes[1])
    except (StoreDenied, StoreRejected):
        try:
            await _look_at(client, prefixes[0])
        except StoreError as error:
            raise _away(error)
        return False
    except StoreError as error:
        raise _away(error)
    return True


async def _look_at(client: EtcdClient, prefix: str) -> None:
    async with aclosing(pages(client, prefix, limit=1)) as read:
        await anext(read)


async def whole(
    client: EtcdClient, prefixes: Sequence[str], known: dict[int, Listing], newest: int, inbox: "Inbox"
) -> Listing:
    """All rows under `prefixes` at one revision of the Cloud. Raises CloudAway, also once `inbox` is closed: a client
    that was replaced is closed soon.

    `known`: lists that its watches have brought, by the place of their root; emptied. The newest of them is used if
    it is not older than `newest`, the last revision that was projected; the other roots are read as of its revision:
    what a watch has listed already it does not bring again.
    """
    base = max(known, key=lambda root: known[root].revision, default=None)
    if base is not None and known[base].revision < newest:
        base = None
    revision = known[base].revision if base is not None else 0
    found = {root: each.rows for root, each in known.items() if each.revision == revision} if base is not None else {}
    known.clear()
    rows: list[KeyValue] = []
    try:
        for root, prefix in enumerate(prefixes):
            if root in found:
                rows += found.pop(root)
                continue
            async with aclosing(pages(client, prefix, revision=revision)) as read:
                async for page in read:
                    if inbox.closed:
                        raise CloudAway("the Cloud is followed anew")
                    revision = page.revision
                    rows += page.rows
    except StoreError as error:
        raise _away(error)
    return Listing(tuple(rows), revision)


def in_the_cloud(reason: str) -> str:
    """What is said of an etcd, said of the Cloud's: `etcd.*` in it would send people to the settings of the local
    one."""
    what, found, _ = reason.partition(": check etcd.")
    advice = "see whether the Cloud still takes our certificate; check managed.cp_ca_cert_file and the CA of the bundle"
    return f"{what}: {advice}" if found else reason


def _away(error: StoreError) -> CloudAway:
    reason = in_the_cloud(str(error))
    return CloudDenies(reason) if isinstance(error, StoreDenied) else CloudAway(reason)


@dataclass(slots=True)
class Taken:
    """What was in an inbox."""

    listings: dict[int, Listing] = field(default_factory=dict)
    """By the place of their root."""
    events: list[Event] = field(default_factory=list)
    """Of whole revisions of their root, ascending; those of a root's list are not among them."""
    since: float = 0.0
    """When the oldest of all that came."""


class Inbox:
    """What the watches of the roots have brought and nobody has taken yet. Full, it lets them wait."""

    def __init__(self, roots: int, now: Callable[[], float]) -> None:
        """`now`: seconds that never go back."""
        self._now = now
        self._unlisted = set(range(roots))
        """Roots of which no list has come yet: nothing is handed out before."""
        self._listings: dict[int, Listing] = {}
        self._events: dict[int, list[Event]] = {root: [] for root in range(roots)}
        self._bytes = dict.fromkeys(range(roots), 0)
        self._since: float | None = None
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self.closed = False
        """Whether nothing more comes."""

    async def put(self, root: int, event: Listing | Changes) -> None:
        """Take in what a watch brought, once there is room for it."""
        if isinstance(event, Listing):
            self._listings[root] = event
            self._unlisted.discard(root)
            self._events[root].clear()
            self._bytes[root] = 0
        else:
            size = sum(map(_size, event.events))
            while not self._has_room(len(event.events), size):
                self._room.clear()
                await self._room.wait()
            self._events[root] += event.events
            self._bytes[root] += size
        if self._since is None:
            self._since = self._now()
        self._changed.set()

    async def take(self, timeout: float) -> Taken:
        """All that is there, as soon as there is something; empty-handed after `timeout` seconds and once closed."""
        try:
            async with asyncio.timeout(timeout):
                while not (self.closed or self._ready()):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass
        if self._unlisted or not self._ready():
            return Taken(since=self._now())
        events = list(merge(*self._events.values(), key=attrgetter("mod_revision")))
        taken = Taken(self._listings, events, self._now() if self._since is None else self._since)
        self._listings, self._since = {}, None
        for root in self._events:
            self._events[root] = []
            self._bytes[root] = 0
        self._room.set()
        return taken

    def close(self) -> None:
        """Nothing more comes."""
        self.closed = True
        self._changed.set()

    def _ready(self) -> bool:
        return not self._unlisted and bool(self._listings or any(self._events.values()))

    def _has_room(self, events: int, size: int) -> bool:
        waiting, held = sum(map(len, self._events.values())), sum(self._bytes.values())
        return not waiting or (waiting + events <= MOST_EVENTS and held + size <= MOST_BYTES)


def batches(events: Iterable[Event]) -> Iterator[Changes]:
    """The changes that are projected together: those of one revision, whose parts in the two roots meet here; where
    many revisions wait, several whole ones, as many as fit into one transaction."""
    revisions: dict[int, list[Event]] = {}
    for event in events:
        revisions.setdefault(event.mod_revision, []).append(event)
    if len(revisions) <= FEW:
        yield from (Changes(tuple(found), revision) for revision, found in sorted(revisions.items()))
        return
    group: dict[str, Event] = {}
    size = last = 0
    for revision, found in sorted(revisions.items()):
        more = sum(map(_size, found))
        if group and (len(group) + len(found) > GROUP_EVENTS or size + more > GROUP_BYTES):
            yield Changes(tuple(group.values()), last)
            group, size = {}, 0
        group.update((event.key, event) for event in found)
        size, last = size + more, revision
    if group:
        yield Changes(tuple(group.values()), last)


def _size(event: Event) -> int:
    return len(event.key) + (len(event.value) if isinstance(event, KeyValue) else 0)
