"""The projection row: how far the Cloud's configuration lies in the local etcd, written with every transaction of it.

    <run root>/projection    {"env_id": "...", "cloud_revision": 41, "state": "applying", "target": 42}

A revision of the Cloud that is too large for one transaction lies there in part for a while: whoever reads resources
tells by `torn` that what it has is such a part, and waits for the rest.
"""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import msgspec

from aisix_common.store.types import KeyValue

State: TypeAlias = Literal["applying", "done"]

HERE: Final = -1
"""Stands for the revision of the very transaction that a row is written in: nobody knows it before."""


class Marker(msgspec.Struct, frozen=True, omit_defaults=True):
    """The projection row."""

    env_id: str
    """The environment whose rows lie under the local roots."""
    cloud_revision: int
    """The Cloud's revision that was projected last as a whole; 0 while none was."""
    state: State
    """`applying`: a revision too large for one transaction is on its way."""
    target: int = 0
    """The Cloud's revision that is on its way; 0 when `done`."""
    began: int = 0
    """Local revision at which the last projection in several transactions began (HERE: with this one); 0: there was
    none."""
    rows: int = 0
    """Local revision of the last transaction that changed rows under the resource root (HERE: this one); 0: unknown."""
    ext_rows: int = 0
    """The same of the ext root."""

    @property
    def bare(self) -> "Marker":
        """Without what it knows of local revisions."""
        return Marker(self.env_id, self.cloud_revision, self.state, self.target)


@dataclass(frozen=True, slots=True)
class Standing:
    """The projection row as it was read."""

    marker: Marker | None = None
    """None: there is no row, or none that can be read."""
    revision: int = 0
    """Its mod_revision; 0: there is no row."""

    @property
    def began(self) -> int:
        """`Marker.began` as a number; 0: no row."""
        return self._number(self.marker.began) if self.marker is not None else 0

    def rows(self, *, external: bool) -> int:
        """`Marker.rows` or `ext_rows` as a number; 0: no row, or unknown."""
        if self.marker is None:
            return 0
        return self._number(self.marker.ext_rows if external else self.marker.rows)

    def torn(self, revision: int, *, external: bool) -> bool:
        """Whether the rows of a root as of the local `revision`, which is not newer than this row, are part of a Cloud
        revision only."""
        if self.marker is None:
            return False
        if self.marker.state == "applying":
            return True
        return 0 < self.began <= revision < self.rows(external=external)

    def _number(self, given: int) -> int:
        return self.revision if given == HERE else given


NOTHING: Final = Standing()


def projection_key(run_root: str) -> str:
    """The key of the projection row; `run_root` is `settings.etcd.run_root`."""
    return f"{run_root}/projection"


def epoch_key(run_root: str) -> str:
    """The key of the row that whoever won the lead writes; compared by every transaction of the agent."""
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
