"""Keeps the gateway's identity towards the Cloud: one task that looks around every second, and puts a session in force
with the bundle that is best (`finding`), was got for a token, or follows one that has lived long enough (`getting`).

A new certificate is on trial until it has carried a good heartbeat or a whole list (`link.worked`); one that does not
work is left for the one before, and tried again later. All without a restart. Only who leads writes the store, asks the
Cloud, and judges: the flows that show whether a certificate works run there.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aisix_common.clock import Clock
from aisix_common.errors import AisixError
from aisix_common.logs import Logger
from aisix_common.metrics import Metrics
from aisix_common.settings.control import Managed
from aisix_common.tasks import TaskOwner

from ..cloud.link import Link
from .bundle import Bundle
from .bundle_store import BundleStore, Stored
from .certificate_status import CertificateStatus, CertificateView
from .enrolling import KeptSession, OpenSession
from .finding import Finder
from .getting import ENROLMENT, RENEWAL, TOKEN, Getter
from .renewal import renew_at
from .tls import read_extra_ca

_HELD_FROM: Final = 5
"""A certificate that did not work is left alone as after that many failures more: about a minute at first, in which the
one before can show that it works."""
IN_FORCE: Final = "the certificate in force"
NEW: Final = "a new certificate"
LOOKING: Final = "looking after the certificate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds. For tests to be quick."""

    tick: float = 1.0
    look: float = 5.0
    """Between two looks at the store and at the files that the settings name."""
    look_first: float = 2.0
    """The same while there is no certificate."""
    trial: float = 60.0
    """In which a new certificate must have worked."""
    linger: float = 15.0
    """For which a session that was replaced stays, so that its calls can end."""


@dataclass(slots=True)
class _InForce:
    stored: Stored
    session: KeptSession
    extra_ca: str | None
    chance: float
    """Moves the time of its renewal."""
    settled: bool = False
    """Whether it has worked, and the store knows."""
    trial_until: float | None = None


@dataclass(frozen=True, slots=True)
class _Held:
    """A certificate that did not work, and when it is tried again. `refused`: the Cloud said so."""

    bundle: Bundle
    until: float
    refused: bool


class Keeper:
    """Puts sessions in force on `link`. Whoever makes it runs `run`, and calls `aclose` when the flows have ended."""

    def __init__(
        self,
        managed: Managed,
        store: BundleStore,
        link: Link,
        *,
        clock: Clock,
        random: Callable[[], float],
        monotonic: Callable[[], float],
        log: Logger,
        metrics: Metrics,
        open_session: OpenSession,
        pace: Pace | None = None,
    ) -> None:
        """`random` gives numbers in [0, 1), `monotonic` seconds. `given.check` has been called."""
        self._managed = managed
        self._store = store
        self._link = link
        self._clock = clock
        self._random = random
        self._monotonic = monotonic
        self._log = log
        self._status = CertificateStatus(clock, log, metrics)
        self._finder = Finder(managed, store, clock, self._status)
        self._getter = Getter(
            managed, store, self._finder, clock=clock, random=random, monotonic=monotonic, status=self._status
        )
        self._open = open_session
        self._pace = pace or Pace()
        self._closing = TaskOwner()
        self._lingering: set[KeptSession] = set()
        self._current: _InForce | None = None
        self._previous: _InForce | None = None
        """What was in force before, still open while `_current` is on trial."""
        self._held: _Held | None = None
        self._look_at = monotonic()

    def status(self) -> CertificateView:
        """For `/status/cloud`."""
        return self._status.view()

    async def run(self, leading: Callable[[], bool]) -> None:
        """Runs until cancelled; raises nothing. `leading` says whether we may write the store and ask the Cloud for
        certificates at this moment."""
        while True:
            try:
                await self._step(leading)
            except (AisixError, OSError) as error:
                self._status.trouble(LOOKING, str(error))
            except Exception as error:  # noqa: BLE001 - a mistake of ours must not end the link; told once
                if self._status.trouble(LOOKING, f"a mistake in the agent: {type(error).__name__}"):
                    self._log.exception("looking after the certificate failed")
            else:
                self._status.over(LOOKING)
            await asyncio.sleep(self._pace.tick)

    async def aclose(self) -> None:
        """Close all sessions."""
        self._link.use(None)
        for each in (self._current, self._previous):
            if each is not None:
                self._lingering.add(each.session)
        self._current = self._previous = None
        await self._closing.close()
        while self._lingering:
            await self._lingering.pop().aclose()

    async def _step(self, leading: Callable[[], bool]) -> None:
        await self._look(leading)
        current = self._current
        if not leading():
            self._retire_previous()
            if current is not None:
                current.trial_until = None
        elif current is None or current.stored.identity.not_after < self._clock.now():
            await self._enroll(leading)
        else:
            await self._settle(current)
            await self._renew(leading)
        current = self._current
        self._status.observe(current.stored.identity if current is not None else None, stuck=self._getter.stuck)

    async def _look(self, leading: Callable[[], bool]) -> None:
        """Take up the best bundle, if it is another than the one in force."""
        now, current = self._monotonic(), self._current
        if now < self._look_at:
            return
        self._look_at = now + (self._pace.look if current is not None else self._pace.look_first)
        try:
            best = await self._finder.best(current.stored.identity if current is not None else None, leading)
            if best is not None:
                await self._take(best)
        except (AisixError, OSError) as error:
            self._status.suspect("the look at the bundles", str(error))
        else:
            self._status.suspect("the look at the bundles", None)

    async def _take(self, best: Stored) -> None:
        current, held = self._current, self._held
        extra_ca = await asyncio.to_thread(read_extra_ca, self._managed.cp_ca_cert_file)
        if current is not None and best.bundle == current.stored.bundle:
            if best.version:
                current.stored = best  # it may have been kept meanwhile
            if extra_ca != current.extra_ca:
                self._install(best, extra_ca)
        elif held is None or best.bundle != held.bundle or self._tried_again(held):
            self._install(best, extra_ca)

    def _tried_again(self, held: _Held) -> bool:
        """Where the Cloud refused it and gives new ones, another one is asked for instead. One that was only silent is
        better than one that is refused."""
        if held.refused:
            return self._monotonic() >= held.until and not self._getter.renews
        current = self._current
        return self._monotonic() >= held.until or (current is not None and current.session.refused is not None)

    # what is in force

    def _install(self, stored: Stored, extra_ca: str | None) -> None:
        """Open a session with this bundle and put it in force. Raises ConfigurationError; nothing has changed then."""
        session = self._open(self._managed, stored.bundle, stored.identity)
        self._put(_InForce(stored, session, extra_ca, self._random()))
        for topic in (TOKEN, ENROLMENT, IN_FORCE):
            self._status.over(topic)
        identity = stored.identity
        self._log.info(
            "a certificate of the Cloud link is in force",
            env_id=identity.env_id,
            dp_id=identity.dp_id,
            serial=identity.serial,
            not_after=identity.not_after.isoformat(),
        )

    def _put(self, new: _InForce) -> None:
        self._link.use(new.session)
        self._retire_previous()
        self._previous, self._current = self._current, new

    def _retire_previous(self) -> None:
        """What was in force before is not needed any more."""
        old, self._previous = self._previous, None
        if old is not None:
            self._lingering.add(old.session)
            self._closing.spawn(self._close_later(old.session), name="close a session with the Cloud")

    async def _close_later(self, session: KeptSession) -> None:
        await asyncio.sleep(self._pace.linger)
        if session in self._lingering:
            self._lingering.discard(session)
            await session.aclose()

    async def _settle(self, current: _InForce) -> None:
        """See whether what is in force works, and leave it where it does not."""
        now, said = self._monotonic(), current.session.refused
        if said is None:
            self._status.over(IN_FORCE)
        elif current.settled:
            self._status.trouble(IN_FORCE, said, act=True)
        if current.settled:
            return
        if self._link.worked.is_set():
            await self._confirm(current)
            return
        if current.trial_until is None:
            current.trial_until = now + self._pace.trial
        if said is None and now < current.trial_until:
            return
        back = await self._before(current)
        if back is not None:
            await self._go_back(current, back, said)
        elif said is not None:
            self._status.trouble(IN_FORCE, said, act=True)

    async def _confirm(self, current: _InForce) -> None:
        await asyncio.to_thread(self._store.confirm, current.stored.version, self._clock.now())
        await self._getter.worked(current.stored.identity)
        self._retire_previous()
        if self._held is None or self._held.bundle == current.stored.bundle:
            self._held = None
            self._status.over(NEW)
        current.settled = True

    async def _before(self, current: _InForce) -> Stored | None:
        """What may be gone back to."""
        now = self._clock.now()
        found = await asyncio.to_thread(self._store.before, now)
        if found is None and self._previous is not None and self._previous.stored.identity.not_after > now:
            found = self._previous.stored
        return found if found is not None and found.bundle != current.stored.bundle else None

    async def _go_back(self, current: _InForce, back: Stored, said: str | None) -> None:
        reason = said or f"it carried no heartbeat and no list within {self._pace.trial:g} s"
        previous = self._previous
        if previous is not None and previous.stored.bundle == back.bundle:
            self._previous = None
            previous.settled, previous.trial_until = False, None
            self._put(previous)
        else:
            self._install(back, current.extra_ca)
        self._retire_previous()
        until = await self._getter.did_not_work(back.identity, _HELD_FROM)
        self._held = _Held(current.stored.bundle, until, said is not None)
        self._status.renewal("refused")
        serial = current.stored.identity.serial
        self._status.trouble(
            NEW,
            f"the one with serial number {serial} does not work, the one before is in force again: {reason}",
            act=True,
        )

    # what is asked for

    async def _enroll(self, leading: Callable[[], bool]) -> None:
        stored = await self._getter.enroll(leading)
        if stored is not None:
            self._log.info("the Cloud gave a certificate for the token", serial=stored.identity.serial)
            self._install(stored, await asyncio.to_thread(read_extra_ca, self._managed.cp_ca_cert_file))

    async def _renew(self, leading: Callable[[], bool]) -> None:
        current, held = self._current, self._held
        if current is None or not self._getter.renews or (held is not None and not held.refused):
            return
        identity = current.stored.identity
        if self._clock.now() < renew_at(identity, current.chance):
            return
        if not current.settled and await self._before(current) is not None:
            return  # it is on trial itself
        stored = await self._getter.renew(current.session, current.stored, leading)
        if stored is not None:
            self._status.over(RENEWAL)
            self._log.info("the Cloud renewed the certificate", serial=stored.identity.serial, before=identity.serial)
            self._held = None
            self._install(stored, current.extra_ca)
