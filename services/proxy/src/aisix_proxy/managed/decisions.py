"""What the Cloud said of caller keys, and what that means now (control-plane 6.5). No I/O.

A decision counts while it is younger than `managed.budget_stale_max_secs`, and as long as it may be that old although
the Cloud answers (RECENT_SECONDS); after that its fail mode does. Ages are taken between the agent's clock and ours:
clocks that differ by seconds do not matter, ten minutes would.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from aisix_common.logs import Logger
from aisix_common.managed.budgets import (
    FRESH_SECONDS,
    MOST_KEYS,
    REFRESH_SECONDS,
    SHARDS,
    Budget,
    Decided,
    Decision,
    Denial,
    decided_root,
    shard_of,
)
from aisix_common.store.types import Deleted, KeyValue, Listing

NO_DENIAL: Final = Denial()
RECENT_SECONDS: Final = REFRESH_SECONDS + 2 * FRESH_SECONDS
"""No decision of a key in use gets older than that while the Cloud answers."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a key may spend, and why not."""

    allow: bool
    denial: Denial = NO_DENIAL


ALLOWED: Final = Verdict(True)
UNREACHED: Final = Verdict(False, Denial("cp-api unreachable and no cached decision"))
"""The contract's answer for a key nothing was ever heard of: its fail mode is not known either."""
EXPIRED: Final = Verdict(False, Denial("cp-api unreachable and the cached decision is too old"))

_DECODER: Final = msgspec.json.Decoder(Decided)


class _Known:
    """A decision, and both its verdicts."""

    __slots__ = ("at", "decision", "fresh", "stale")

    def __init__(self, decision: Decision, now: float) -> None:
        self.decision = decision
        self.at = min(decision.at, now)  # a clock ahead of ours must not keep it for longer
        self.fresh = ALLOWED if decision.allow else Verdict(False, decision.denial or NO_DENIAL)
        self.stale = ALLOWED if decision.fail_mode == "open" else EXPIRED


class Decisions:
    """By key, from the rows under `<run root>/budgets/decided/`. `now` is Unix seconds everywhere."""

    def __init__(self, run_root: str, stale_max_secs: float, log: Logger) -> None:
        self._root = decided_root(run_root)
        self._stale_max = max(stale_max_secs, RECENT_SECONDS)
        self._log = log
        self._known: dict[str, _Known] = {}
        self._shards: dict[int, frozenset[str]] = {}
        """Which keys each row names now. Those that no row names any more are kept until they are too old."""
        self._garbage = False

    def verdict(self, api_key_id: str, now: float) -> Verdict:
        """What counts now."""
        known = self._known.get(api_key_id)
        if known is None:
            return UNREACHED
        return known.fresh if now - known.at < self._stale_max else known.stale

    def age(self, api_key_id: str, now: float) -> float:
        """Seconds since the Cloud spoke of the key; infinite when it never did."""
        known = self._known.get(api_key_id)
        return float("inf") if known is None else now - known.at

    def counts(self, api_key_id: str, now: float) -> bool:
        """Whether there is a decision that counts by itself, without its fail mode."""
        return self.age(api_key_id, now) < self._stale_max

    def budgets(self) -> Iterator[tuple[str, Budget | None]]:
        """The numbers of each key that is known; None: allowed or denied without any."""
        return ((id, known.decision.budget) for id, known in self._known.items())

    def absent(self, listing: Listing, now: float) -> None:
        """A listing came: shards without a row name no keys now. Its rows are for `take`."""
        present = {self._shard(row.key) for row in listing.rows}
        for shard in [each for each in self._shards if each not in present]:
            self._shards[shard] = frozenset()
        self.prune(now)

    def take(self, event: KeyValue | Deleted, now: float) -> tuple[str, ...]:
        """A row as it is now. Returns the keys of which it says something new. What is no row of ours, and what stands
        in the wrong one, changes nothing and is told once."""
        shard = self._shard(event.key)
        if shard is None:
            self._tell("it is in no shard")
            return ()
        if isinstance(event, Deleted):
            self._shards[shard] = frozenset()
            return ()
        try:
            keys = _DECODER.decode(event.value).keys
        except (msgspec.MsgspecError, ValueError, RecursionError):
            self._tell("it cannot be read")
            return ()
        ours = {id: decision for id, decision in keys.items() if shard_of(id) == shard}
        if len(ours) < len(keys):
            self._tell("it names keys of another shard")
        news = []
        for id, decision in ours.items():
            before = self._known.get(id)
            if before is None and len(self._known) >= 2 * MOST_KEYS:
                self._tell("there are too many keys")
                continue
            if before is None or before.decision != decision:
                self._known[id] = _Known(decision, now)
                news.append(id)
        self._shards[shard] = frozenset(ours)
        return tuple(news)

    def prune(self, now: float) -> None:
        """Forget keys that no row names any more, once they are too old to count."""
        named = self._shards
        gone = [
            id
            for id, known in self._known.items()
            if now - known.at >= self._stale_max and id not in named.get(shard_of(id), ())
        ]
        for id in gone:
            del self._known[id]

    def _shard(self, key: str) -> int | None:
        name = key.removeprefix(self._root)
        return int(name) if len(name) == 2 and name.isascii() and name.isdigit() and int(name) < SHARDS else None

    def _tell(self, reason: str) -> None:
        if not self._garbage:
            self._log.error("a row of budget decisions is not as it should be: it is ignored", reason=reason)
        self._garbage = True
