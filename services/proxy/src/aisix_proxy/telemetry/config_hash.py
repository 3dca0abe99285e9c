"""The fingerprint of what is served, kept up to date beside the requests: for the metrics and this instance's row.

It reads every row, so it is made in a thread, only when what is served has changed, and with pauses that grow with what
it costs.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from aisix_common.snapshot import Snapshot, config_hash

INTERVAL_SECONDS: Final = 3.0
_SHARE: Final = 50
"""A pause is at least this many times as long as the last hash took."""


class ConfigHash:
    """`run` is a background task of one owner; `value` is what it found last."""

    def __init__(self, snapshot: Callable[[], Snapshot], tell: Callable[[str], None]) -> None:
        """`snapshot` gives the one that is served; `tell` gets every new hash."""
        self._snapshot = snapshot
        self._tell = tell
        self._seen = 0
        self.value = ""
        """Hex; empty before anything was applied."""

    async def run(self) -> None:
        """Look, and look again after a while, until cancelled."""
        while True:
            took = await self._look()
            await asyncio.sleep(max(INTERVAL_SECONDS, took * _SHARE))

    async def _look(self) -> float:
        snapshot = self._snapshot()
        if snapshot.apply_seq == self._seen:
            return 0.0
        begun = time.monotonic()
        found = await asyncio.to_thread(config_hash, snapshot)
        self._seen = snapshot.apply_seq
        if found != self.value:
            self.value = found
            self._tell(found)
        return time.monotonic() - begun
