"""What is said of the certificate: in the log, in metrics and on `/status/cloud`. Decides nothing."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from aisix_common.clock import Clock
from aisix_common.logs import Logger
from aisix_common.metrics import Metrics

from .chain import date
from .identity import Identity
from .renewal import Alarm, alarm

RESULTS: Final = ("renewed", "failed", "refused")
"""Of renewals: a new certificate; none; a new one that did not work, so that the one before is in force again."""


@dataclass(frozen=True, slots=True)
class CertificateView:
    """For `/status/cloud`. Texts are empty and times None while there is no certificate."""

    env_id: str
    dp_id: str
    serial: str
    not_before: datetime | None
    not_after: datetime | None
    alarm: str
    """`none`, `soon`, `urgent` or `expired`."""
    last_refusal: str
    """What went wrong last, with certificate, enrolment or renewal."""
    last_refusal_at: datetime | None


class CertificateStatus:
    """Told by the keeper what happens; tells the others."""

    def __init__(self, clock: Clock, log: Logger, metrics: Metrics) -> None:
        self._clock = clock
        self._log = log
        self._identity: Identity | None = None
        self._level = Alarm.NONE
        self._last = ""
        self._last_at: datetime | None = None
        self._troubles: dict[str, bool] = {}
        """What was told and is not over, and whether it was said that somebody has to act."""
        self._suspected: dict[str, str] = {}
        self._expiry = metrics.gauge(
            "aisix_cloud_certificate_expiry_timestamp_seconds", "When the certificate of the Cloud link ends; 0: none."
        ).cell()
        self._alarm = metrics.gauge(
            "aisix_cloud_certificate_alarm",
            "How urgent the certificate of the Cloud link is: 0 not, 1 soon, 2 urgent, 3 expired, or none to be had.",
        ).cell()
        renewals = metrics.counter("aisix_cloud_renewals_total", "Certificates asked for anew, by result.", ("result",))
        self._renewals = {result: renewals.cell(result) for result in RESULTS}

    def observe(self, identity: Identity | None, *, stuck: bool = False) -> None:
        """What is in force now; `stuck`: there is none, and none will come without the operator."""
        now = self._clock.now()
        self._identity = identity
        level = alarm(identity, now) if identity is not None else Alarm.EXPIRED if stuck else Alarm.NONE
        self._expiry.set(identity.not_after.timestamp() if identity is not None else 0.0)
        self._alarm.set(float(level))
        if level > self._level and identity is not None:
            tell = self._log.warning if level is Alarm.SOON else self._log.error
            line = "has expired" if level is Alarm.EXPIRED else "ends soon and was not renewed"
            tell(
                f"the certificate of the Cloud link {line}: have it renewed, or replace it",
                alarm=level.name.lower(),
                not_after=date(identity.not_after),
                serial=identity.serial,
            )
        self._level = level

    def renewal(self, result: str) -> None:
        """One of RESULTS."""
        self._renewals[result].add()

    def trouble(self, topic: str, reason: str, *, act: bool = False) -> bool:
        """Something is wrong with `topic` (a few words). Told when it begins, and when somebody has to `act` now;
        whether it was told."""
        self._last, self._last_at = reason, self._clock.now()
        told = self._troubles.get(topic)
        if told is not None and (told or not act):
            return False
        (self._log.error if act else self._log.warning)(f"trouble with {topic}", reason=reason)
        self._troubles[topic] = act
        return True

    def suspect(self, topic: str, reason: str | None) -> None:
        """What a look found wrong, or None. Told when the next look finds the same: files are replaced one by one, and
        between two of them they do not belong together."""
        if reason is None:
            self._suspected.pop(topic, None)
            self.over(topic)
        elif self._suspected.get(topic) != reason:
            self.over(topic)
            self._suspected[topic] = reason
        else:
            self.trouble(topic, reason, act=True)

    def over(self, topic: str) -> None:
        """Nothing is wrong with it any more."""
        if self._troubles.pop(topic, None) is not None:
            self._log.info(f"no more trouble with {topic}")

    def view(self) -> CertificateView:
        """As it is now."""
        it = self._identity
        return CertificateView(
            it.env_id if it is not None else "",
            it.dp_id if it is not None else "",
            it.serial if it is not None else "",
            it.not_before if it is not None else None,
            it.not_after if it is not None else None,
            self._level.name.lower(),
            self._last,
            self._last_at,
        )
