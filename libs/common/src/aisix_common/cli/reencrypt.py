"""`aisix secrets reencrypt`: every stored secret under the keyring's first key, while others go on writing.

Each row is one transaction that compares the row and the canary, so nothing that somebody else writes meanwhile is
lost, and nobody's other keyring is overwritten. What is done is not done again: an interrupted run goes on where it
was.
"""

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from aisix_common.errors import ConfigurationError, Problem, StoreRejected, StoreUnavailable
from aisix_common.secrets.canary import canary_key, canary_of, canary_row, verify
from aisix_common.secrets.census import Unreadable, look, renewed
from aisix_common.secrets.envelope import CannotOpen, Keyring
from aisix_common.settings.storage import Etcd
from aisix_common.store.client import EtcdClient, etcd_options
from aisix_common.store.types import KeyValue, Put, unchanged

from .stored import PAUSE_SECONDS, Row, all_rows, keyring_of, named, settings_of

IN_FLIGHT: Final = 8
ATTEMPTS: Final = 20
"""Times that one row is tried while others write it."""
PASSES: Final = 5
"""Times that all rows are looked at: a service that was not restarted yet may still write with another key."""


class Disagreed(Exception):
    """This keyring must not write; the message says why."""


@dataclass(slots=True)
class Outcome:
    """What became of it."""

    changed: int = 0
    troubled: dict[str, str] = field(default_factory=dict)
    """Rows that were left as they are, with the reason."""
    keys: Counter[str] = field(default_factory=Counter)
    """Values that the last look found under each key, those of troubled rows included."""
    blind: bool = False
    """Whether a row could not be read, so that nobody knows what its secrets are under."""
    settled: bool = False
    """Whether the last look found nothing to do."""


class Progress:
    """A line a second on a terminal, else one at each twentieth of the way."""

    def __init__(self, write: Callable[[str], object], *, tty: bool, monotonic: Callable[[], float]) -> None:
        self._write = write
        self._tty = tty
        self._monotonic = monotonic
        self._said = monotonic()
        self._total = self._done = 0

    def begin(self, total: int) -> None:
        """Start anew, towards `total`."""
        self._total, self._done = total, 0

    def step(self) -> None:
        """One more is done."""
        self._done += 1
        if self._tty:
            due = self._monotonic() - self._said >= 1.0
        else:
            due = self._done * 20 // self._total > (self._done - 1) * 20 // self._total
        if due:
            self._said = self._monotonic()
            self._write(f"{self._done} of {self._total} row(s), {self._done * 100 // self._total} %\n")


def main(config: str) -> int:
    """Run the command; 1 when a secret is left that is not under the first key.

    Raises ConfigurationError, StoreError.
    """
    settings = settings_of(config)
    keyring = keyring_of(settings)
    if not keyring:
        rule = "must name the key to encrypt with: `aisix secrets generate-key` makes one"
        raise ConfigurationError([Problem("secrets.keyring", rule)])
    progress = Progress(sys.stderr.write, tty=sys.stderr.isatty(), monotonic=time.monotonic)

    async def run() -> Outcome:
        async with EtcdClient(etcd_options(settings.etcd, os.environ)) as client:
            return await Reencryption(client, settings.etcd, keyring, progress).run()

    try:
        outcome = asyncio.run(run())
    except Disagreed as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1
    sys.stderr.write("".join(f"{line}\n" for line in told(outcome, keyring)))
    return 0 if outcome.settled and not outcome.troubled else 1


def told(outcome: Outcome, keyring: Keyring) -> Iterator[str]:
    """What goes to stderr at the end, line by line."""
    yield f"encrypted anew: {outcome.changed} row(s); {outcome.keys[keyring.first]} secret(s) are under {keyring.first}"
    yield from named("were left as they are", outcome.troubled)
    if not outcome.settled:
        yield (
            "other writers still store secrets under other keys, or in clear: give every service this keyring, restart "
            "it, and run this again"
        )
        return
    unused = [key for key in keyring.ids[1:] if not outcome.keys[key]]
    if outcome.blind:
        yield "which keys are no longer used cannot be told: some rows cannot be read"
    elif unused:
        yield f"no longer used, and may be removed from secrets.keyring of every service: {', '.join(unused)}"


class Reencryption:
    """One run. `run` may be cancelled at any time."""

    def __init__(self, client: EtcdClient, etcd: Etcd, keyring: Keyring, progress: Progress) -> None:
        self._client = client
        self._etcd = etcd
        self._keyring = keyring
        self._progress = progress
        self._canary_key = canary_key(etcd.run_root)
        self._canary = KeyValue(self._canary_key, b"", 0, 0)
        self._outcome = Outcome()

    async def run(self) -> Outcome:
        """Do it. Raises Disagreed, StoreError."""
        await self._agree()
        for _ in range(PASSES):
            before = self._outcome.changed
            await self._once()
            if self._outcome.changed > before:
                continue
            if not await self._renew_canary():
                self._outcome.settled = True
                break
            # Only now are those stopped that do not know the first key: they may have written since this look.
        await self._renew_canary()
        return self._outcome

    async def _agree(self) -> None:
        """Know the canary, made by us if there is none. Raises Disagreed where it is of another keyring."""
        while True:
            found = await self._client.get(self._canary_key)
            if found is not None:
                self._accept(found)
                return
            await self._client.txn([unchanged(self._canary_key, 0)], [Put(self._canary_key, canary_row(self._keyring))])

    def _accept(self, canary: KeyValue | None) -> None:
        reason = verify(canary.value, self._keyring) if canary is not None else "the canary row was deleted meanwhile"
        if canary is None or reason is not None:
            raise Disagreed(reason)
        self._canary = canary

    async def _once(self) -> None:
        """Look at all rows, and at each as often as it needs."""
        rows = (await all_rows(self._client, self._etcd)).rows
        self._outcome.troubled.clear()
        self._outcome.keys.clear()
        self._outcome.blind = False
        self._progress.begin(len(rows))
        left = iter(rows)

        async def work() -> None:
            for row in left:
                await self._row(row)
                self._progress.step()

        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))

    async def _row(self, row: Row) -> None:
        key, stored = row.stored.key, row.stored
        reason = "others write it all the time: run this again"
        for _ in range(ATTEMPTS):
            try:
                new = renewed(row.kind, row.id, stored.value, self._keyring)
            except Unreadable as error:
                self._outcome.troubled[key] = str(error)
                self._outcome.blind = True
                return
            except CannotOpen as error:
                self._outcome.troubled[key] = str(error)
                self._count(row, stored.value)
                return
            if new is None:
                self._count(row, stored.value)
                return
            compare = [unchanged(key, stored.mod_revision), unchanged(self._canary_key, self._canary.mod_revision)]
            try:
                if (await self._client.txn(compare, [Put(key, new, stored.lease)])).succeeded:
                    self._outcome.changed += 1
                    self._count(row, new)
                    return
                (now, canary), _ = await self._client.together([key, self._canary_key])
            except StoreRejected as error:
                self._outcome.troubled[key] = str(error)
                self._count(row, stored.value)
                return
            except StoreUnavailable as error:  # whether it was written shows the next time
                reason = str(error)
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            self._accept(canary)
            if now is None:
                return
            stored = now
        self._outcome.troubled[key] = reason
        self._count(row, stored.value)

    def _count(self, row: Row, value: bytes) -> None:
        try:
            self._outcome.keys.update(look(row.kind, row.id, value, self._keyring).keys)
        except Unreadable:
            self._outcome.blind = True

    async def _renew_canary(self) -> bool:
        """The canary under the first key, too: from now on a service that does not know it stores no secrets. Whether
        it was not so before. Raises Disagreed."""
        if canary_of(self._canary.value) == self._keyring.first:
            return False
        while canary_of(self._canary.value) != self._keyring.first:
            row = canary_row(self._keyring)
            await self._client.txn(
                [unchanged(self._canary_key, self._canary.mod_revision)], [Put(self._canary_key, row)]
            )
            self._accept(await self._client.get(self._canary_key))
        return True
