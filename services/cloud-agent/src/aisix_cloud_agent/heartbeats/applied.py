"""Which revision of the Cloud an instance has applied, from the local revisions it tells of. Pure.

The projection row names, with every revision of the Cloud that is `done`, the local revisions at which rows of each
root changed last (`aisix_common.managed.projected`): whoever has applied those has applied that.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

from aisix_common.managed.projected import Standing

MOST_MARKERS: Final = 1024


@dataclass(frozen=True, slots=True)
class _Reached:
    """A revision of the Cloud, and the local revisions from which on an instance has applied it."""

    rows: int
    ext_rows: int
    cloud_revision: int

    def by(self, applied: int, external: int) -> bool:
        return applied >= self.rows and external >= self.ext_rows


class Applied:
    """The last `done` markers, to tell local revisions as revisions of the Cloud. Pure.

    A marker that changed no rows repeats the numbers of the one before: it is applied by whoever has applied that.
    """

    def __init__(self) -> None:
        self._known: deque[_Reached] = deque(maxlen=MOST_MARKERS)
        self.env_id = ""
        """The environment whose markers they are."""

    def begin(self, now: Standing) -> None:
        """What was known is not to be trusted (a list: etcd may be another one, or changes were missed); the projection
        row stands so."""
        self._known.clear()
        self.env_id = ""
        self.take(now)

    def take(self, now: Standing) -> None:
        """The projection row was written, or is gone."""
        marker = now.marker
        env_id = "" if marker is None else marker.env_id
        if env_id != self.env_id:
            self._known.clear()
            self.env_id = env_id
        if marker is None or marker.state != "done":
            return
        reached = _reached(now, marker.cloud_revision)
        if self._known and (self._known[-1].rows, self._known[-1].ext_rows) == (reached.rows, reached.ext_rows):
            self._known.pop()
        self._known.append(reached)

    def of(self, applied: int, external: int) -> int | None:
        """The revision of the Cloud that whoever is at these local revisions has applied; 0: none; None: an older one
        than those that are known."""
        if applied <= 0 or not self.env_id:
            return 0
        for reached in reversed(self._known):
            if reached.by(applied, external):
                return reached.cloud_revision
        return None


def applied_then(now: Standing, env_id: str, applied: int, external: int) -> int | None:
    """The same by the projection row as it stood at a local revision in the past. None: by that row it has not applied
    what had been projected as a whole; one of another environment tells nothing, which is 0."""
    marker = now.marker
    if marker is None or marker.env_id != env_id:
        return 0
    return marker.cloud_revision if _reached(now, marker.cloud_revision).by(applied, external) else None


def _reached(now: Standing, cloud_revision: int) -> _Reached:
    return _Reached(now.rows(external=False), now.rows(external=True), cloud_revision)
