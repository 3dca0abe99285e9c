"""Who leads, as the flows see it: a number that fences every write, and whether it can still be ours."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from aisix_common.errors import AisixError
from aisix_common.managed.projected import epoch_key
from aisix_common.store.types import Compare, unchanged


class LeadLost(AisixError):
    """Somebody else writes, or may: stop at once and win again."""


@dataclass(frozen=True, slots=True)
class Lead:
    """The lead that was won."""

    epoch: int
    """mod_revision of the epoch row, which whoever won wrote: a transaction that compares it (`fence`) fails once
    somebody else has."""
    _holds: Callable[[], bool] = field(repr=False)

    def holds(self) -> bool:
        """Whether nobody else can have won yet, by our own clock, which goes on while this process is stopped. For what
        is not written to etcd: ask before each call."""
        return self._holds()

    def require(self) -> None:
        """Raises LeadLost unless it holds."""
        if not self.holds():
            raise LeadLost("the lead was not renewed in time")

    def fence(self, run_root: str) -> Compare:
        """The condition of every transaction of a leader."""
        return unchanged(epoch_key(run_root), self.epoch)


class Lock(Protocol):
    """What decides who leads: a lock in etcd, or a Kubernetes Lease. One process uses it from one task."""

    name: str
    """For logs and status: what it is and where."""

    async def acquire(self) -> None:
        """Wait, however long, until it is ours. Trouble is logged once and tried again."""
        ...

    async def keep(self) -> None:
        """Renew it until it is lost; returns then. Only after `acquire`."""
        ...

    def holds(self) -> bool:
        """Whether nobody else can have got it yet."""
        ...

    async def release(self) -> None:
        """Give it back, if it is ours, so that the next one need not wait. Raises nothing; takes 2 s at most."""
        ...
