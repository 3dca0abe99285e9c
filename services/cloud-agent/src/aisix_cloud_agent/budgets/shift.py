"""Asking the Cloud about the keys in use, while one lead lasts."""

import asyncio
from contextlib import aclosing
from typing import Final, NoReturn

from aisix_common.clock import Clock
from aisix_common.logs import Logger
from aisix_common.managed.budgets import MOST_KEYS, asked_root
from aisix_common.store.client import EtcdClient
from aisix_common.store.types import Lost
from aisix_common.store.watch import WatchTuning, list_and_watch

from ..cloud.link import CloudRefused, CloudUnavailable
from ..flow.crew import Crew
from ..flow.gate import Gate, Turn
from ..flow.told import Told
from ..flow.waiting import Time
from ..lead.lead import Lead
from .answers import NoAnswer, read_decision
from .asked import AskedKeys
from .metrics import BudgetMetrics
from .publishing import BudgetPublishing
from .rows import DecidedRows
from .schedule import BudgetSchedule

MOST_CALLS: Final = 32
"""In flight."""
FIRST_CALLS: Final = 4
"""In flight for keys that were never asked for, while the Cloud does not answer: a new key waits for no pause."""
_LOOK_SECONDS: Final = 0.25
"""How often a closed gate, the certificate and the lead are looked at."""
_TIDY_SECONDS: Final = 60.0
_TUNING: Final = WatchTuning(page=200)


class BudgetShift:
    """See the module."""

    def __init__(
        self,
        local: EtcdClient,
        run_root: str,
        lead: Lead,
        gate: Gate,
        publishing: BudgetPublishing,
        clock: Clock,
        time: Time,
        log: Logger,
        metrics: BudgetMetrics,
    ) -> None:
        self._local = local
        self._run_root = run_root
        self._lead = lead
        self._gate = gate
        self._publishing = publishing
        self._clock = clock
        self._time = time
        self._metrics = metrics
        self._asked = AskedKeys()
        self._rows = DecidedRows(self._asked)
        self._schedule = BudgetSchedule(self._asked, lambda key: self._rows.get(key) is not None)
        self.calls = 0
        """In flight."""
        self._besides = 0
        self._woken = asyncio.Event()
        self._watch = Told(
            log, "the caller keys in use cannot be followed", "the caller keys in use are followed again"
        )
        self._refusals = Told(
            log, "the Cloud does not tell whether a caller key may spend", "the Cloud tells of all caller keys again"
        )
        self._too_many = Told(
            log,
            f"more than {MOST_KEYS} caller keys are in use: the Cloud is not asked about all of them",
            "the Cloud is asked about all caller keys again",
        )
        self.failing: set[str] = set()
        """Keys in use whose last answer was a refusal, or none that can be read."""

    @property
    def keys_in_use(self) -> int:
        return len(self._asked)

    @property
    def keys_known(self) -> int:
        return len(self._rows)

    @property
    def trouble(self) -> str:
        """Why decisions grow old; empty: all is well."""
        told = (self._publishing, self._watch, self._gate, self._refusals, self._too_many)
        return next((each.trouble for each in told if each.trouble), "")

    async def run(self, crew: Crew) -> NoReturn:
        """Ask and publish, for ever. Raises LeadLost."""
        await self._publishing.load(self._rows)
        crew.start(self._follow(), name="caller keys in use")
        crew.start(self._publishing.run(self._rows), name="publication of budgets")
        await self._poll(crew)

    async def _follow(self) -> None:
        """Follow which keys are in use, for ever."""
        async with aclosing(list_and_watch(self._local, asked_root(self._run_root), _TUNING)) as events:
            async for event in events:
                if isinstance(event, Lost):
                    self._watch.began(event.reason)
                    continue
                self._watch.ended()
                came = self._asked.apply(event)
                if self._asked.beyond:
                    self._too_many.began(f"{self._asked.beyond} keys get no decision")
                else:
                    self._too_many.ended()
                if came:
                    self._schedule.came(came, self._time.monotonic())
                    self._woken.set()

    async def _poll(self, crew: Crew) -> NoReturn:
        tidy_at = self._time.monotonic() + _TIDY_SECONDS
        while True:
            self._lead.require()
            if self._time.monotonic() >= tidy_at:
                tidy_at = self._time.monotonic() + _TIDY_SECONDS
                self._tidy()
            self._woken.clear()
            while self.calls < MOST_CALLS and self._start_one(crew):
                pass
            seconds = max(self._schedule.next_due() - self._time.monotonic(), 0.0)
            await self._time.wait(self._woken, min(seconds or _LOOK_SECONDS, 1.0))

    def _start_one(self, crew: Crew) -> bool:
        """Make a call; False: none is due, or may be made."""
        following = self._schedule.next(self._time.monotonic())
        if following is None:
            return False
        key, first = following
        turn, besides = self._gate.turn(), False
        if turn is None and first and self._besides < FIRST_CALLS:
            turn, besides = self._gate.besides(), True
        if turn is None:
            return False
        self._schedule.take(key, self._time.monotonic())
        self.calls += 1
        self._besides += besides
        crew.start(self._ask(key, turn, besides=besides), name="budget check")
        return True

    async def _ask(self, key: str, turn: Turn, *, besides: bool) -> None:
        refused = False
        try:
            refused = not await self._asked_for(key, turn)
        finally:
            self.calls -= 1
            self._besides -= besides
            self._schedule.done(key, self._time.monotonic(), failed=refused)
            self._woken.set()

    async def _asked_for(self, key: str, turn: Turn) -> bool:
        """One call; False: it is this key that the Cloud has no answer for."""
        try:
            with self._gate.calling(turn) as session:
                self._lead.require()
                answer = await session.budget(key)
        except CloudUnavailable:
            self._metrics.checks["unavailable"].add()
            return True
        except CloudRefused as refused:
            self._metrics.checks["refused"].add()
            self._without_answer(key, str(refused))
            return False
        now = self._clock.now()
        try:
            decision = read_decision(answer, now)
        except NoAnswer as error:
            self._metrics.checks["unreadable"].add()
            self._without_answer(key, str(error))
            return False
        self._metrics.answered(now, allow=decision.allow)
        self.failing.discard(key)
        if not self.failing:
            self._refusals.ended()
        self._rows.put(key, decision, self._time.monotonic())
        self._publishing.moved()
        return True

    def _without_answer(self, key: str, reason: str) -> None:
        self.failing.add(key)
        self._refusals.began(f"{reason} (API key {key[:64]!r})")

    def _tidy(self) -> None:
        now = self._time.monotonic()
        self._rows.tidy(now)
        self._schedule.tidy(now)
        self.failing = {key for key in self.failing if key in self._asked}
        if not self.failing:
            self._refusals.ended()
        self._publishing.moved()
