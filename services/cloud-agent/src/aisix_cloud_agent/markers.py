"""The row that says how far the projection is, and what fences a writer that has lost the lead (design 9). Pure.

    <run root>/projection    {"env_id": "...", "cloud_revision": 41, "state": "applying", "target": 42}
    <run root>/agent/epoch   written by whoever won the lead; compared by every transaction of the agent

Every transaction writes the projection row and compares it as it was: two writers can never take turns unnoticed, and
what became of a transaction whose answer was lost is told by reading that row.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

import msgspec

from aisix_common.secrets.canary import canary_key
from aisix_common.store.types import Compare, KeyValue, unchanged

State: TypeAlias = Literal["applying", "done"]


class Marker(msgspec.Struct, frozen=True, omit_defaults=True):
    """The projection row."""

    env_id: str
    """The environment whose rows lie under the local roots."""
    cloud_revision: int
    """The Cloud's revision that was projected last as a whole; 0 while none was."""
    state: State
    """`applying`: a revision too large for one transaction is on its way. Proxies hold compilation meanwhile."""
    target: int = 0
    """The Cloud's revision that is on its way; 0 when `done`."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The projection row as it was read."""

    marker: Marker | None = None
    """None: there is no row, or none that can be read."""
    revision: int = 0
    """Its mod_revision; 0: there is no row."""


@dataclass(frozen=True, slots=True)
class Fence:
    """What a transaction is only valid with, as mod_revisions (0: no such row)."""

    epoch: int
    projection: int
    canary: int = 0
    """Of the row that tells which keyring everybody's secrets are sealed with; the caller has verified it."""

    def after(self, revision: int) -> "Fence":
        """The fence of the next transaction; `revision` is the one that this transaction was committed at."""
        return replace(self, projection=revision)

    def compares(self, run_root: str, *, sealed: bool) -> list[Compare]:
        """The conditions; `sealed`: the transaction writes secrets that were sealed just now."""
        made = [unchanged(epoch_key(run_root), self.epoch), unchanged(projection_key(run_root), self.projection)]
        if sealed:
            made.append(unchanged(canary_key(run_root), self.canary))
        return made


NOTHING: Final = Standing()


def projection_key(run_root: str) -> str:
    """The key of the projection row; `run_root` is `settings.etcd.run_root`."""
    return f"{run_root}/projection"


def epoch_key(run_root: str) -> str:
    """The key of the leader's row."""
    return f"{run_root}/agent/epoch"


def standing(row: KeyValue | None) -> Standing:
    """What a stored projection row says. Never raises: a damaged row is one of nobody."""
    if row is None:
        return NOTHING
    try:
        return Standing(msgspec.json.decode(row.value, type=Marker), row.mod_revision)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return Standing(None, row.mod_revision)


def marker_row(marker: Marker) -> bytes:
    """The row's bytes."""
    return msgspec.json.encode(marker)
