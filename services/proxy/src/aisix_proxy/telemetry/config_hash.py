"""The fingerprint of what is served, kept up to date beside the requests: for the metrics and this instance's row.

It reads every row, so it is made in a thread, only when what is served or the keyring has changed, and with pauses that
grow with what it costs.

It is published (metrics, the instance's row, the Cloud) and is over secrets, too: a digest of the whole configuration,
and never of one row or secret. Whoever wants to try out one of them by it needs every other byte of every row, the
other secrets and the hashes of all caller keys among them (decision 0005).
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from aisix_common.secrets.envelope import NO_KEYRING, Keyring
from aisix_common.snapshot import Snapshot, config_hash

INTERVAL_SECONDS: Final = 3.0
_SHARE: Final = 50
"""A pause is at least this many times as long as the last hash took."""


class ConfigHash:
    """`run` is a background task of one owner; `value` is what it found last."""

    def __init__(
        self, snapshot: Callable[[], Snapshot], keyring: Callable[[], Keyring], tell: Callable[[str], None]
    ) -> None:
        """`snapshot` gives the one that is served, `keyring` the present keys; `tell` gets every new hash."""
        self._snapshot = snapshot
        self._keyring = keyring
        self._tell = tell
        self._seen = 0
        self._under = NO_KEYRING
        """The keyring at the last hash: another one may open what only a hash looks at (see `content`)."""
        self.value = ""
        """Hex; empty before anything was applied."""

    async def run(self) -> None:
        """Look, and look again after a while, until cancelled."""
        while True:
            took = await self._look()
            await asyncio.sleep(max(INTERVAL_SECONDS, took * _SHARE))

    async def _look(self) -> float:
        snapshot, keyring = self._snapshot(), self._keyring()
        if not snapshot.apply_seq or (snapshot.apply_seq == self._seen and keyring is self._under):
            return 0.0
        begun = time.monotonic()
        found = await asyncio.to_thread(config_hash, snapshot, keyring)
        self._seen, self._under = snapshot.apply_seq, keyring
        if found != self.value:
            self.value = found
            self._tell(found)
        return time.monotonic() - begun
