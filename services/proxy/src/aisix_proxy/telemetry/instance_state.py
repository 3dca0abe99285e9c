"""This process's row under `<run root>/instances/`: what it applied, rejected and how its models do (design 5).

Leased: it goes away with the process, after a last write that says it was meant to. Written on change and at most once
a second; whatever goes wrong with it is logged and serves no request worse. The admin's receipts, health and status
pages are made of it; `models` is health by name, healthy ones left out.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from aisix_common.errors import StoreError
from aisix_common.logs import get_logger
from aisix_common.model_status import ModelNews
from aisix_common.snapshot import Snapshot
from aisix_common.sources.observed import SourceStatus
from aisix_common.store.client import EtcdClient
from aisix_common.store.lease import LeaseKeeper
from aisix_common.tasks import TaskOwner

from .shortcomings import RejectedResource, Shortcomings, UnknownField

TTL_SECONDS: Final = 15
INTERVAL_SECONDS: Final = 1.0
MOST_MODELS: Final = 256
GUARDRAIL_KINDS: Final[tuple[str, ...]] = ()
"""The kinds of guardrails that this proxy runs, in the order of control-plane 3.4: none yet."""
_GOODBYE_SECONDS: Final = 1.0
_log = get_logger(__name__)


class InstanceState(msgspec.Struct, frozen=True, omit_defaults=True):
    """The row."""

    instance: str
    service: str
    hostname: str
    version: str
    started_at: str
    """RFC 3339."""
    applied_revision: int
    """Of the resource root."""
    connected: bool
    external_revision: int = 0
    """The same of the ext root."""
    keys: tuple[str, ...] = ()
    """Ids of the keys that its keyring opens secrets with."""
    config_hash: str = ""
    """Of what is served, a few seconds late; absent before anything was applied."""
    worker: int | None = None
    restored: bool = False
    """Served from the disk cache; etcd was not reached since."""
    rejected_count: int = 0
    rejected: tuple[RejectedResource, ...] = ()
    """The newest, 64 at most."""
    partially_compatible: tuple[UnknownField, ...] = ()
    """The most frequent, 64 at most."""
    supported_guardrail_kinds: tuple[str, ...] = ()
    models: Mapping[str, int] = {}
    """1 degraded, 2 down; by display name, 256 at most, the worst first."""
    reasons: Mapping[str, str] = {}
    """Why the last attempt failed, of the same models."""
    stopping: bool = False
    """It ends as it was told to, so it is not missed: the last thing it writes."""


def with_configuration(
    base: InstanceState,
    snapshot: Snapshot,
    status: SourceStatus,
    news: ModelNews,
    external: Snapshot | None = None,
    shortcomings: Shortcomings | None = None,
) -> InstanceState:
    """`base` with what changes over a process's life. Bounded, whatever the snapshots hold: of the resources, and of
    what lies under the ext root. `shortcomings`: the same one every time saves work."""
    short = shortcomings or Shortcomings()
    short.follow(snapshot, external)
    worst = sorted(news.levels.items(), key=lambda item: (-item[1], item[0]))[:MOST_MODELS]
    return msgspec.structs.replace(
        base,
        applied_revision=snapshot.revision,
        external_revision=0 if external is None else external.revision,
        connected=status.connected,
        restored=status.restored,
        rejected_count=short.rejected_count,
        rejected=short.rejected,
        partially_compatible=short.fields,
        models=dict(worst),
        reasons={name: reason for name, _ in worst if (reason := news.reasons.get(name))},
    )


class InstanceRow:
    """Keeps the row in etcd true. `run` and `keep` are two background tasks of one owner."""

    def __init__(self, client: EtcdClient, run_root: str, instance: str, state: Callable[[], InstanceState]) -> None:
        self._client = client
        self._key = f"{run_root}/instances/{instance}"
        self._state = state
        self._written = b""
        self._keeper = LeaseKeeper(client, TTL_SECONDS, self._write)
        self._told = False
        self._moved = asyncio.Event()
        self._stopping = False

    @property
    def lease(self) -> int:
        """The lease that the row hangs on; 0 while there is none."""
        return self._keeper.lease

    async def keep(self) -> None:
        """Hold the lease until cancelled, then say so in the row, and give the lease back and the row with it."""
        async with TaskOwner() as own:
            keeping = own.spawn(self._keeper.run(), name="instance lease")
            try:
                await asyncio.wait([keeping])
            except asyncio.CancelledError:
                await self._say_goodbye()
                raise

    async def run(self) -> None:
        """Write the row when it changed, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(INTERVAL_SECONDS):
                    await self._moved.wait()
            except TimeoutError:
                pass  # for what nobody tells of: health, the connection, the hash
            self._moved.clear()
            if await self._refresh():
                await asyncio.sleep(INTERVAL_SECONDS)

    def changed(self) -> None:
        """A configuration was applied: write at once, if the last write is not too young. Receipts wait for it."""
        self._moved.set()

    async def _refresh(self) -> bool:
        """Write the row unless it says what it should; whether it was written."""
        lease = self._keeper.lease
        if not lease or self._stopping or self._row() == self._written:
            return False
        try:
            await self._write(lease)
            self._told = False
        except StoreError as error:
            if not self._told:
                _log.warning("this instance's row could not be written", reason=str(error))
            self._told = True
        return True

    async def _say_goodbye(self) -> None:
        self._stopping = True
        if not self._keeper.lease:
            return
        try:
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await self._write(self._keeper.lease)
        except (StoreError, TimeoutError):
            pass  # then it will be missed for a while: that is all

    async def _write(self, lease: int) -> None:
        row = self._row()
        await self._client.put(self._key, row, lease=lease)
        self._written = row

    def _row(self) -> bytes:
        state = self._state()
        return msgspec.json.encode(msgspec.structs.replace(state, stopping=True) if self._stopping else state)
