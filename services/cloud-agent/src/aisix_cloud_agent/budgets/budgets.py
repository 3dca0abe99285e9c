"""Budgets: the Cloud is asked about the caller keys in use, and what it says is published to the proxies (design 9).

Only what the Cloud said is ever published, with the moment it said so: without an answer the decision before stays, and
grows old; what counts then, the proxies know (control-plane 6.5). Who is asked for next is `schedule`'s, what is
written when `rows`', which keys are in use `asked`'s.
"""

from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Final, NoReturn

from aisix_common.clock import Clock
from aisix_common.logs import Logger
from aisix_common.metrics import Metrics
from aisix_common.store.client import EtcdClient

from ..cloud.link import Link
from ..flow.crew import Crew
from ..flow.gate import Gate
from ..flow.waiting import LOOP_TIME, Time
from ..lead.lead import Lead
from .metrics import BudgetMetrics
from .publishing import BudgetPublishing
from .shift import BudgetShift

LONGEST_PAUSE: Final = 10.0
"""Between two tries while the Cloud does not answer."""
PATIENCE: Final = 3
"""Calls in a row that fail until it counts as away: one key's trouble is not everybody's."""


def about_key(status: int) -> bool:
    """Whether a refusal is about the key that was asked for, and not about who we are."""
    return 400 <= status < 500 and status not in (401, 403)


@dataclass(frozen=True, slots=True)
class BudgetsStatus:
    """For `/status/cloud`."""

    keys_in_use: int
    keys_known: int
    """Keys with a decision."""
    keys_failing: int
    """Keys in use that the Cloud refuses to answer for, or answers with nothing that can be read."""
    last_success: datetime | None
    trouble: str
    """Why decisions grow old; empty: all is well."""


class Budgets:
    """See the module. One instance for the life of the process; `run` while this agent leads."""

    def __init__(
        self,
        local: EtcdClient,
        link: Link,
        run_root: str,
        *,
        clock: Clock,
        chance: Random,
        log: Logger,
        metrics: Metrics,
        time: Time = LOOP_TIME,
    ) -> None:
        self._local = local
        self._link = link
        self._run_root = run_root
        self._clock = clock
        self._chance = chance
        self._log = log
        self._time = time
        self._metrics = BudgetMetrics(metrics)
        self._shift: BudgetShift | None = None
        metrics.before_collect(lambda: self._metrics.keys_in_use.set(self.status.keys_in_use))

    @property
    def status(self) -> BudgetsStatus:
        shift, last_success = self._shift, self._metrics.last_success
        if shift is None:
            return BudgetsStatus(0, 0, 0, last_success, "")
        return BudgetsStatus(shift.keys_in_use, shift.keys_known, len(shift.failing), last_success, shift.trouble)

    @property
    def calls(self) -> int:
        """Calls in flight."""
        return self._shift.calls if self._shift is not None else 0

    async def run(self, lead: Lead) -> NoReturn:
        """Ask and publish until cancelled. Raises LeadLost."""
        gate = Gate(
            self._link,
            self._time.monotonic,
            self._chance,
            self._log,
            what="budget checks",
            about=about_key,
            longest=LONGEST_PAUSE,
            patience=PATIENCE,
        )
        publishing = BudgetPublishing(self._local, self._run_root, lead, self._time, self._chance, self._log)
        shift = BudgetShift(
            self._local, self._run_root, lead, gate, publishing, self._clock, self._time, self._log, self._metrics
        )
        self._shift = shift
        try:
            async with Crew() as crew:
                crew.start(shift.run(crew), name="budget checks")
                await crew.failure()
        finally:
            self._shift = None
