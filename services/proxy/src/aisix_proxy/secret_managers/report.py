"""What operators are told of references: on the status page, and in the log as their state changes.

A reference's text is no secret: it says where one is. Long ones are cut.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from math import inf
from types import MappingProxyType
from typing import Any, Final

from aisix_common.clock import rfc3339
from aisix_common.logs import Logger

from .cache import Cache, Known, State

MOST_LISTED: Final = 64
LOG_SECONDS: Final = 1.0
"""For how long news are collected before they are logged: thousands of references may share one manager."""
_LONGEST_TEXT: Final = 256
_NEWS: Final[Mapping[State, str]] = MappingProxyType(
    {
        "good": "secrets are had again",
        "stale": "secrets cannot be fetched: those had before are used on",
        "failed": "secrets are not to be had: rows with them are out of service",
    }
)


@dataclass(frozen=True, slots=True)
class Trouble:
    """A reference that is stale or failed."""

    reference: str
    state: State
    reason: str
    since: datetime
    used_until: datetime | None = None
    """Until when the value had last is used; None: none is."""


@dataclass(frozen=True, slots=True)
class Report:
    """All references at one moment. `troubles` lists at most 64 of them."""

    counts: Mapping[State, int]
    troubles: tuple[Trouble, ...] = ()

    def document(self) -> dict[str, Any]:
        """The `secrets` member of `/status/config`."""
        return {**named(self.counts), "references": [_shown(trouble) for trouble in self.troubles]}


def report(cache: Cache, now: float, moment: datetime) -> Report:
    """What is known at `now`, which is the `moment` of the wall clock."""

    def at(time: float) -> datetime:
        return moment + timedelta(seconds=time - now)

    troubles = tuple(
        Trouble(
            shortened(text), known.state, known.reason, at(known.since), at(known.until) if known.until < inf else None
        )
        for text, known in islice(cache.troubled(), MOST_LISTED)
    )
    return Report(cache.counts(), troubles)


def named(counts: Mapping[State, int]) -> dict[str, int]:
    """Counts by the names that operators see."""
    return {("resolved" if state == "good" else state): count for state, count in counts.items()}


class News:
    """Changes of state, logged a second after the first, one line for each state."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._found: dict[State, list[tuple[str, str]]] = {}
        self.due = inf
        """When they are to be told."""

    def note(self, text: str, known: Known, before: State, now: float) -> None:
        """A reference was in the state `before` until now."""
        if known.state != before and (before, known.state) != ("pending", "good"):
            self._found.setdefault(known.state, []).append((text, known.reason))
            self.due = min(self.due, now + LOG_SECONDS)

    def tell(self) -> None:
        """Log them."""
        for state, found in self._found.items():
            text, reason = found[0]
            say = {"good": self._log.info, "stale": self._log.warning}.get(state, self._log.error)
            say(_NEWS[state], references=len(found), first=shortened(text), reason=reason)
        self._found.clear()
        self.due = inf


def shortened(text: str) -> str:
    """As much of a reference as is shown."""
    return text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…"


def _shown(trouble: Trouble) -> dict[str, str]:
    shown = {"reference": trouble.reference, "state": trouble.state, "reason": trouble.reason}
    shown["since"] = rfc3339(trouble.since)
    if trouble.used_until is not None:
        shown["used_until"] = rfc3339(trouble.used_until)
    return shown
