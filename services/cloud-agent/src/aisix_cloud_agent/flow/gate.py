"""Whether a kind of call may be made to the Cloud now: while it fails, one call at a time tries, ever more rarely.

The pause is the link's as a whole: many callers that fail together are one failure, and the first call that works lets
all of them in again. A new certificate is a new chance, at once.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Final

from aisix_common.logs import Logger
from aisix_common.store.backoff import Backoff

from ..cloud.link import CloudRefused, CloudUnavailable, Link, Session

_FIRST: Final = 1.0
_LONGEST: Final = 60.0
LONGEST_ASKED: Final = 300.0
"""Seconds of a Retry-After that are respected at most."""


@dataclass(frozen=True, slots=True)
class Turn:
    """That a call may be made, and with which session."""

    session: Session
    round: int
    probe: bool
    """Nobody else may make one meanwhile."""


class Gate:
    """The gate of one kind of call. `what` names it in the log; `about` are the statuses of a refusal that is about
    what the call carried, so that the Cloud is well; every other refusal is trouble of the whole link. `patience`: so
    many failures in a row are needed to close it."""

    def __init__(
        self,
        link: Link,
        monotonic: Callable[[], float],
        chance: Random,
        log: Logger,
        *,
        what: str,
        about: Callable[[int], bool],
        longest: float = _LONGEST,
        patience: int = 1,
    ) -> None:
        self._link = link
        self._monotonic = monotonic
        self._log = log
        self._what = what
        self._about = about
        self._patience = patience
        self._backoff = Backoff(_FIRST, longest, chance)
        self._round = 0
        self._failures = 0
        self._until = 0.0
        self._failed_session: Session | None = None
        self._probing = False
        self.trouble = ""
        """Why it is closed; empty: it is open."""

    @property
    def open(self) -> bool:
        """Whether calls may be made without asking for a turn one by one."""
        return not self.trouble

    def turn(self) -> Turn | None:
        """A turn, or None: not now. Whoever has one makes a call with it, at once, inside `calling`."""
        session = self._link.session
        if session is None:
            return None
        if self.open:
            return Turn(session, self._round, probe=False)
        if self._probing or (self._monotonic() < self._until and session is self._failed_session):
            return None
        self._probing = True
        return Turn(session, self._round, probe=True)

    def besides(self) -> Turn | None:
        """A turn whether the gate is open or not; None without a certificate. The caller has a bound of its own."""
        session = self._link.session
        return Turn(session, self._round, probe=False) if session is not None else None

    @contextmanager
    def calling(self, turn: Turn) -> Iterator[Session]:
        """Around one call: notes what becomes of it. A refusal that is not about what was sent comes out as
        CloudUnavailable."""
        try:
            yield turn.session
        except CloudUnavailable as error:
            self._failed(turn, str(error), error.retry_after)
            raise
        except CloudRefused as error:
            if not self._about(error.status):
                self._failed(turn, str(error), None)
                raise CloudUnavailable(str(error)) from None
            self._worked(turn)
            raise
        else:
            self._worked(turn)
        finally:
            if turn.probe:
                self._probing = False

    def _worked(self, turn: Turn) -> None:
        if turn.round != self._round:
            return  # it began before the trouble did
        self._failures = 0
        if self.trouble:
            self.trouble = ""
            self._backoff.reset()
            self._log.info("the Cloud takes calls again", call=self._what)

    def _failed(self, turn: Turn, reason: str, retry_after: int | None) -> None:
        if turn.round != self._round:
            return  # one of many that failed together
        self._failures += 1
        if self.open and self._failures < self._patience and retry_after is None:
            return
        if self.open:
            self._log.warning("the Cloud does not take calls; trying again", call=self._what, error=reason)
        self.trouble = reason
        self._round += 1
        self._failed_session = turn.session
        self._until = self._monotonic() + max(self._backoff.delay(), min(retry_after or 0, LONGEST_ASKED))
