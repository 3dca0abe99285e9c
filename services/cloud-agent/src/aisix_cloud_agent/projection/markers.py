"""What fences a writer that has lost the lead, and what each transaction of a projection says (design 9). Pure.

Every transaction writes the projection row (`aisix_common.managed.projected`) and compares it as it was: two writers
can never take turns unnoticed, and what became of a transaction whose answer was lost is told by reading that row.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import msgspec

from aisix_common.managed.projected import HERE, Marker, Standing, epoch_key, projection_key
from aisix_common.secrets.canary import canary_key
from aisix_common.store.types import Compare, unchanged


@dataclass(frozen=True, slots=True)
class Fence:
    """What a transaction is only valid with, as mod_revisions (0: no such row), and what the projection row knows of
    the transactions before it."""

    epoch: int
    projection: int
    canary: int = 0
    """Of the row that tells which keyring everybody's secrets are sealed with; the caller has verified it."""
    began: int = 0
    rows: int = 0
    ext_rows: int = 0

    @classmethod
    def at(cls, standing: Standing, *, epoch: int, canary: int = 0) -> "Fence":
        """The fence of the first transaction after `standing` was read."""
        rows, ext_rows = standing.rows(external=False), standing.rows(external=True)
        return cls(epoch, standing.revision, canary, standing.began, rows, ext_rows)

    def marked(self, marker: Marker, *, begins: bool, rows: bool, ext_rows: bool) -> Marker:
        """What the projection row says with this transaction. `begins`: it begins a projection in several; `rows`,
        `ext_rows`: it changes rows under that root."""
        return msgspec.structs.replace(
            marker,
            began=HERE if begins else self.began,
            rows=HERE if rows else self.rows,
            ext_rows=HERE if ext_rows else self.ext_rows,
        )

    def after(self, revision: int, marker: Marker) -> "Fence":
        """The fence of the next transaction; this one was committed at `revision`, with the `marked` one."""

        def number(given: int) -> int:
            return revision if given == HERE else given

        return replace(
            self,
            projection=revision,
            began=number(marker.began),
            rows=number(marker.rows),
            ext_rows=number(marker.ext_rows),
        )

    def compares(self, run_root: str, *, sealed: bool) -> list[Compare]:
        """The conditions; `sealed`: the transaction writes secrets that were sealed just now."""
        made = [unchanged(epoch_key(run_root), self.epoch), unchanged(projection_key(run_root), self.projection)]
        if sealed:
            made.append(unchanged(canary_key(run_root), self.canary))
        return made


def touches(keys: Iterable[str], root: str) -> bool:
    """Whether one of `keys` lies under `root`, which has no trailing slash."""
    return any(key.startswith(f"{root}/") for key in keys)
