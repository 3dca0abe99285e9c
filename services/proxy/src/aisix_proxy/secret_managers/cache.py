"""What is known of each reference: when it is asked for, for how long it may be used, and when no more (design 7).

A state machine without I/O. Time (monotonic seconds) and randomness come in; `turn` says what is due now, `next_turn`
when to look again. Only references that somebody holds are kept.

    pending   never had: the first fetch is under way
    good      had; asked for again before it is too old
    stale     had; the manager is away or refuses us, which says nothing against the value: used until `until`
    failed    not to be had: the manager said so, or was not heard at all, or what was had is too old
"""

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Final, Literal, TypeAlias

from aisix_common.secret import Secret

from .base import Fetched, Unresolved

State: TypeAlias = Literal["pending", "good", "stale", "failed"]
STATES: Final[tuple[State, ...]] = ("pending", "good", "stale", "failed")

FETCHING: Final = "is being fetched"
_LATE: Final = "was not fetched in time: it is still being waited for"
_WAITING: Final = "could not be fetched again in time: other fetches from its manager hang"
_TOO_OLD: Final = "what was had last is too old to be used"
_NEVER: Final = math.inf
_JITTER: Final = 0.1
"""Share of a wait that chance may take off, so that proxies do not ask all at once."""
_SHORTEST: Final = 1.0
"""Seconds between two fetches at least, whatever lifetime a manager names."""
_LONGEST_NEGATIVE: Final = 60.0
"""Seconds after which a secret that could not be had is asked for again at the latest."""
_AT_ONCE: Final = 256
"""References in one turn: a few milliseconds. The others have the next one."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds, from `secrets` of the settings."""

    refresh: float
    retry: float
    stale_max: float
    timeout: float
    """How long the first fetch may be waited for."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """One fetch that is to be made. Its outcome counts only while the reference still is what it was then."""

    text: str
    round: int


@dataclass(slots=True)
class Known:
    """What is known of one reference. For others to read."""

    provider: str
    """`<manager>/<name>`; empty for what no manager is asked for."""
    state: State
    since: float
    """Since when it is in this state."""
    value: Secret | None = None
    """While it is good or stale."""
    reason: str = FETCHING
    """Why it is not good; empty while it is."""
    until: float = _NEVER
    """When a value is used no more, unless it is had again, or a pending one is no longer waited for."""
    fetched: float = 0.0
    due: float = _NEVER
    """When it is to be asked for again; never while it is being asked for."""
    failures: int = 0
    round: int = 0


class Cache:
    """See the module."""

    def __init__(self, timing: Timing, random: Callable[[], float]) -> None:
        """`random` gives numbers from 0 to 1."""
        self._timing = timing
        self._random = random
        self._known: dict[str, Known] = {}
        self._turns: list[tuple[float, int, str]] = []
        """When to look at which reference; what it says may be outdated, never missing."""
        self._order = count()
        self._counts: Counter[State] = Counter()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, text: str) -> Known | None:
        """What is known of a reference."""
        return self._known.get(text)

    def want(self, text: str, provider: str, now: float) -> Known:
        """The same, from now on kept and asked for at `provider`."""
        known = self._known.get(text)
        if known is None or known.provider != provider:
            known = self._put(text, Known(provider, "pending", now, until=now + self._timing.timeout, due=now))
        return known

    def settle(self, text: str, outcome: Secret | str | None, now: float) -> Known:
        """Keep a reference that no manager is asked for, with its secret, with the reason why there is none, or with
        None while it is not known who is to be asked."""
        if isinstance(outcome, Secret):
            made = Known("", "good", now, outcome, "")
        elif outcome is not None:
            made = Known("", "failed", now, reason=outcome)
        else:
            made = Known("", "pending", now)
        known = self._known.get(text)
        if known is None or known.provider or (known.value, known.reason) != (made.value, made.reason):
            known = self._put(text, made)
        return known

    def forget(self, text: str) -> None:
        """Nobody holds the reference any more."""
        known = self._known.pop(text, None)
        if known is not None:
            self._counts[known.state] -= 1

    def renew(self, provider: str, now: float, *, keep: bool) -> None:
        """The provider was changed: ask for all its references at once. `keep`: it is the same place to ask at, so what
        was had there is still good. Without, nothing that was had is known to be right."""
        for text, known in self._known.items():
            if known.provider != provider:
                continue
            known.round += 1
            known.due, known.failures = now, 0
            if not keep or known.value is None:
                self._become(known, "pending", now, FETCHING)
                known.value, known.until = None, now + self._timing.timeout
            self._schedule(text, known)

    def turn(self, now: float) -> tuple[list[Ticket], dict[str, State]]:
        """What is to be fetched now, and the references whose time ran out, with their state until now: they are failed
        from now on. If there are many, not all of them at once: `next_turn` is due then."""
        tickets: list[Ticket] = []
        over: dict[str, State] = {}
        while self._turns and self._turns[0][0] <= now and len(tickets) + len(over) < _AT_ONCE:
            text = heapq.heappop(self._turns)[2]
            known = self._known.get(text)
            if known is None:
                continue
            if min(known.until, known.due) > now:
                continue  # outdated: whatever moved the time noted the new one
            if known.until <= now:
                over[text] = known.state
                self._run_out(known, now)
            if known.due <= now:
                known.due = _NEVER
                if known.state == "good":  # the fetch may wait for its turn behind others that hang
                    known.until = max(known.fetched + self._timing.stale_max, now + self._timing.timeout)
                tickets.append(Ticket(text, known.round))
            self._schedule(text, known)
        return tickets, over

    def next_turn(self) -> float:
        """When `turn` has something to say, at the earliest; infinity: never."""
        return self._turns[0][0] if self._turns else _NEVER

    def current(self, ticket: Ticket) -> Known | None:
        """The reference of a ticket, unless what was asked then is no longer the question."""
        known = self._known.get(ticket.text)
        return known if known is not None and known.round == ticket.round else None

    def had(self, ticket: Ticket, fetched: Fetched, now: float) -> bool:
        """Its fetch went well; whether that changes what is served."""
        known = self.current(ticket)
        if known is None:
            return False
        changed = known.value is None or known.value != fetched.value
        timing = self._timing
        self._become(known, "good", now, "")
        known.value, known.fetched, known.until, known.failures = fetched.value, now, _NEVER, 0
        period = timing.refresh if fetched.lifetime is None else min(timing.refresh, fetched.lifetime)
        known.due = now + max(self._jittered(period), _SHORTEST)
        self._schedule(ticket.text, known)
        return changed

    def failed(self, ticket: Ticket, why: Unresolved, now: float) -> bool:
        """Its fetch failed; whether that changes what is served, or what is said of it."""
        known = self.current(ticket)
        if known is None:
            return False
        known.failures += 1
        reason, timing = str(why), self._timing
        until = known.fetched + timing.stale_max
        if known.value is not None and why.stays_good and now < until:
            self._become(known, "stale", now, reason)
            known.until = until
            known.due = now + self._backoff(known.failures, max(timing.refresh, timing.retry))
            changed = False
        else:
            changed = known.state != "failed" or known.reason != reason
            if known.value is not None:
                known.failures = 1  # the waits of a negative result begin anew
            self._become(known, "failed", now, reason)
            known.value, known.until = None, _NEVER
            known.due = now + self._backoff(known.failures, max(_LONGEST_NEGATIVE, timing.retry))
        self._schedule(ticket.text, known)
        return changed

    def counts(self) -> dict[State, int]:
        """How many references are in each state."""
        return {state: self._counts[state] for state in STATES}

    def troubled(self) -> Iterator[tuple[str, Known]]:
        """The references that are stale or failed."""
        return ((text, known) for text, known in self._known.items() if known.state in ("stale", "failed"))

    def _put(self, text: str, known: Known) -> Known:
        before = self._known.get(text)
        if before is not None:
            self._counts[before.state] -= 1
            known.round = before.round + 1
        self._known[text] = known
        self._counts[known.state] += 1
        self._schedule(text, known)
        return known

    def _become(self, known: Known, state: State, now: float, reason: str) -> None:
        if known.state != state:
            self._counts[known.state] -= 1
            self._counts[state] += 1
            known.state, known.since = state, now
        known.reason = reason

    def _run_out(self, known: Known, now: float) -> None:
        reason = _LATE if known.state == "pending" else f"{known.reason or _WAITING}; {_TOO_OLD}"
        self._become(known, "failed", now, reason)
        known.value, known.until = None, _NEVER

    def _backoff(self, failures: int, most: float) -> float:
        return self._jittered(min(self._timing.retry * 2.0 ** min(failures - 1, 30), most))

    def _jittered(self, seconds: float) -> float:
        return seconds * (1 - _JITTER * self._random())

    def _schedule(self, text: str, known: Known) -> None:
        at = min(known.due, known.until)
        if at < _NEVER:
            heapq.heappush(self._turns, (at, next(self._order), text))
        if len(self._turns) > 4 * len(self._known) + 64:
            self._rebuild()

    def _rebuild(self) -> None:
        """Outdated turns are left behind by every change; they must not pile up."""
        self._turns = [
            (at, next(self._order), text)
            for text, known in self._known.items()
            if (at := min(known.due, known.until)) < _NEVER
        ]
        heapq.heapify(self._turns)
