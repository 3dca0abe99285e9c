"""What is told of the projection: its status for `/status/cloud`, the `aisix_cloud_*` metrics of it, and its alarms in
the log. Trouble is told when it begins and when it ends."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, TypeAlias

from aisix_common.clock import Clock
from aisix_common.logs import Logger
from aisix_common.metrics import Metrics

from .layout import SHOWN_CHARACTERS, Refused

Alarm: TypeAlias = Literal["shrink", "environment", "keyring"]
ALARMS: Final[tuple[Alarm, ...]] = ("shrink", "environment", "keyring")
Outcome: TypeAlias = Literal["committed", "refused", "failed"]
SHOWN: Final = 64
"""Refused rows that are told of."""
_KEPT: Final = 1000
"""Refused rows that are known by name."""
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(frozen=True, slots=True)
class ProjectionStatus:
    """How the projection does."""

    connected: bool
    """Whether the Cloud's etcd is followed."""
    cloud_revision: int
    """The last one that was projected as a whole by this process; 0: none yet."""
    rows: int
    refused_rows: int
    refused: tuple[Refused, ...]
    """The newest of them."""
    alarms: tuple[tuple[Alarm, str], ...]
    """What holds the projection up, with what to do."""
    trouble: str
    """What is wrong with the Cloud's etcd or the local one; empty where nothing is."""
    last_contact: datetime | None
    """When the Cloud's etcd answered last, whatever it was."""
    last_change: datetime | None
    """When rows were written last."""
    lag_seconds: float
    """How long what waits has been waiting; 0 where nothing does."""


class ProjectionMetrics:
    """The numbers, and who changes them. Registers the metrics."""

    def __init__(self, metrics: Metrics, clock: Clock, log: Logger, now: Callable[[], float]) -> None:
        """`now`: seconds that never go back."""
        self._clock = clock
        self._log = log
        self._now = now
        self._roots: dict[int, str] = {}
        """What is wrong with the watch of a root; empty: nothing."""
        self._local = ""
        self._alarms: dict[Alarm, str] = {}
        self._refused: dict[str, str] = {}
        self._more_refused = 0
        self._since: float | None = None
        self._revision = self._rows = 0
        self._contact: datetime | None = None
        self._change: datetime | None = None
        self._register(metrics)

    def status(self) -> ProjectionStatus:
        """How it does now."""
        newest = list(self._refused.items())[-SHOWN:]
        trouble = next((f"Cloud: {reason}" for reason in self._roots.values() if reason), "")
        return ProjectionStatus(
            bool(self._roots) and not trouble,
            self._revision,
            self._rows,
            len(self._refused) + self._more_refused,
            tuple(Refused(key, reason) for key, reason in reversed(newest)),
            tuple(self._alarms.items()),
            trouble or (f"local etcd: {self._local}" if self._local else ""),
            self._contact,
            self._change,
            max(0.0, self._now() - self._since) if self._since is not None else 0.0,
        )

    def left(self) -> None:
        """The Cloud is not followed any more."""
        self._roots.clear()
        self._since = None

    def follows(self, roots: int) -> None:
        """So many roots of the Cloud are followed from now on."""
        for root in [root for root in self._roots if root >= roots]:
            del self._roots[root]

    def heard(self, root: int) -> None:
        """The watch of this root has brought something."""
        self._contact = self._clock.now()
        before, self._roots[root] = self._roots.get(root), ""
        if before and not any(self._roots.values()):
            self._log.info("the Cloud's etcd is followed again")

    def lost(self, root: int, reason: str) -> None:
        """The watch of this root is broken; it is being seen to."""
        if not any(self._roots.values()):
            self._log.warning("the Cloud's etcd cannot be followed: what was projected stays in use", reason=reason)
        self._roots[root] = reason

    def local_trouble(self, reason: str) -> None:
        """The local etcd did not do what it should; empty: it does."""
        before, self._local = self._local, reason
        if reason and not before:
            self._log.warning("the local etcd cannot be written: the Cloud's changes wait", reason=reason)
        elif before and not reason:
            self._log.info("the local etcd can be written again")

    def alarm(self, alarm: Alarm, text: str) -> None:
        """Something that an operator should look at; an empty `text`: no more."""
        before = self._alarms.pop(alarm, "")
        if text:
            self._alarms[alarm] = text
        if text and not before:
            self._log.error("the projection is held up", alarm=alarm, reason=text)
        elif before and not text:
            self._log.info("the projection is not held up any more", alarm=alarm)

    def waiting(self, since: float | None) -> None:
        """Since when the oldest change that is not projected has been there; None: all are."""
        self._since = since

    def projected(self, revision: int, rows: int, *, changed: bool) -> None:
        """A revision is there as a whole; `rows` are all that lie there. `changed`: some were written for it."""
        if changed:
            self._change = self._clock.now()
        if self._since is not None:
            self._seconds.cell().observe(max(0.0, self._now() - self._since))
        self._revision, self._rows = revision, rows

    def refused_of_all(self, refused: Iterable[Refused]) -> None:
        """The rows that were left out, of a whole list."""
        self._refused.clear()
        self._more_refused = 0
        self._refuse(refused)

    def refused_among(self, keys: Iterable[str], refused: Iterable[Refused]) -> None:
        """Those that were, among changed rows of these keys."""
        for key in keys:
            self._refused.pop(key[:SHOWN_CHARACTERS], None)
        self._refuse(refused)

    def written(self, puts: int, deletes: int) -> None:
        """Rows were written."""
        self._writes.cell("put").add(puts)
        self._writes.cell("delete").add(deletes)

    def transaction(self, outcome: Outcome) -> None:
        """One transaction has ended; `failed`: what became of it is not known."""
        self._transactions.cell(outcome).add()

    def _refuse(self, refused: Iterable[Refused]) -> None:
        for each in refused:
            key = each.key[:SHOWN_CHARACTERS]
            if key not in self._refused and len(self._refused) >= _KEPT:
                del self._refused[next(iter(self._refused))]
                self._more_refused += 1
            self._refused[key] = each.reason

    def _register(self, metrics: Metrics) -> None:
        connected = metrics.gauge("aisix_cloud_connected", "1 while the Cloud's etcd is followed.", merge="min")
        revision = metrics.gauge("aisix_cloud_projected_revision", "Revision of the Cloud that lies in the local etcd.")
        rows = metrics.gauge("aisix_cloud_projected_rows", "Rows in the local etcd.")
        refused = metrics.gauge("aisix_cloud_refused_rows", "Rows of the Cloud that are not projected.")
        held = metrics.gauge(
            "aisix_cloud_projection_held", "1 while the projection is held up, by what it waits for.", ("alarm",)
        )
        lag = metrics.gauge("aisix_cloud_projection_lag_seconds", "How long the oldest waiting change has waited.")
        contact = metrics.gauge("aisix_cloud_last_contact_timestamp_seconds", "When the Cloud's etcd answered last.")
        change = metrics.gauge("aisix_cloud_last_change_timestamp_seconds", "When rows were written last.")
        self._seconds = metrics.histogram(
            "aisix_cloud_projection_seconds", "From a change's arrival until it is in the local etcd.", buckets=_SECONDS
        )
        self._transactions = metrics.counter(
            "aisix_cloud_projection_transactions_total", "Transactions in the local etcd, by outcome.", ("outcome",)
        )
        self._writes = metrics.counter(
            "aisix_cloud_projection_writes_total", "Rows written in the local etcd.", ("operation",)
        )
        for operation in ("put", "delete"):
            self._writes.cell(operation)
        for outcome in ("committed", "refused", "failed"):
            self._transactions.cell(outcome)

        def refresh() -> None:
            status = self.status()
            connected.cell().set(status.connected)
            revision.cell().set(status.cloud_revision)
            rows.cell().set(status.rows)
            refused.cell().set(status.refused_rows)
            lag.cell().set(status.lag_seconds)
            contact.cell().set(status.last_contact.timestamp() if status.last_contact else 0)
            change.cell().set(status.last_change.timestamp() if status.last_change else 0)
            for alarm in ALARMS:
                held.cell(alarm).set(alarm in self._alarms)

        metrics.before_collect(refresh)
