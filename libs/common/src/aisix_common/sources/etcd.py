"""The snapshot of a running service, kept true from etcd: stub, being filled in."""

from collections.abc import Callable
from typing import Any

from aisix_common.clock import Clock
from aisix_common.snapshot import Snapshot

from .observed import SourceStatus


class EtcdSource:
    """Restores the disk cache, then lists and watches one prefix, and hands out every new snapshot."""

    def __init__(self, client: Any, prefix: str, cache: Any, clock: Clock, log: Any) -> None: ...

    async def run(self, on_snapshot: Callable[[Snapshot], None]) -> None:
        """Runs until cancelled. Calls `on_snapshot` on the event loop, one call at a time."""
        raise NotImplementedError

    def status(self) -> SourceStatus:
        """What is known of the source now."""
        raise NotImplementedError
