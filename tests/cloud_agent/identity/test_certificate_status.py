"""What is said of the certificate, and how often."""

import datetime as dt

import structlog

from aisix_cloud_agent.identity.certificate_status import CertificateStatus
from aisix_cloud_agent.identity.identity import Identity, identify
from aisix_cloud_agent.identity.renewal import Alarm
from aisix_common.metrics import Metrics

from tests.cloud_agent.issuing import DAY, DP, ENV, NOW, bundle
from tests.cloud_agent.keeping import logger


class Clock:
    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> dt.datetime:
        return self.time


def status() -> tuple[CertificateStatus, Clock, structlog.testing.LogCapture, Metrics]:
    clock, lines, metrics = Clock(), structlog.testing.LogCapture(), Metrics()
    return CertificateStatus(clock, logger(lines), metrics), clock, lines, metrics


def ours() -> Identity:
    given = bundle()
    return identify(given.certificate, given.key, given.ca, NOW)


def gauge(metrics: Metrics, name: str) -> float:
    return next(f for f in metrics.collect() if f.name == name).samples[0].value


def test_an_alarm_is_told_when_it_rises_and_shown_all_the_time() -> None:
    said, clock, lines, metrics = status()
    identity = ours()  # 90 days, of which 60 are left
    for days, level, told in ((0, Alarm.NONE, 0), (40, Alarm.SOON, 1), (41, Alarm.SOON, 1), (55, Alarm.URGENT, 2)):
        clock.time = NOW + days * DAY
        said.observe(identity)
        assert gauge(metrics, "aisix_cloud_certificate_alarm") == level
        assert len(lines.entries) == told
    clock.time = NOW + 61 * DAY
    said.observe(identity)
    assert [line["log_level"] for line in lines.entries] == ["warning", "error", "error"]
    assert gauge(metrics, "aisix_cloud_certificate_expiry_timestamp_seconds") == identity.not_after.timestamp()
    assert said.view().alarm == "expired"
    said.observe(None, stuck=True)
    assert gauge(metrics, "aisix_cloud_certificate_alarm") == Alarm.EXPIRED
    said.observe(None)
    assert gauge(metrics, "aisix_cloud_certificate_alarm") == Alarm.NONE


def test_trouble_is_told_once_again_when_somebody_must_act_and_at_its_end() -> None:
    said, _, lines, _ = status()
    assert said.trouble("enrolment", "one")
    assert not said.trouble("enrolment", "two")
    assert said.trouble("enrolment", "three", act=True)
    assert not said.trouble("enrolment", "four")
    said.over("enrolment")
    said.over("enrolment")
    assert [(line["log_level"], line.get("reason")) for line in lines.entries] == [
        ("warning", "one"),
        ("error", "three"),
        ("info", None),
    ]
    assert said.view().last_refusal == "four"


def test_what_a_look_finds_is_told_when_the_next_one_finds_it_too() -> None:
    said, _, lines, _ = status()
    for reason in ("half", "other half", None, "broken", "broken", "broken", None):
        said.suspect("files", reason)
    assert [line.get("reason") for line in lines.entries] == ["broken", None]


def test_the_view_says_who_we_are() -> None:
    said, _, _, _ = status()
    assert said.view().env_id == ""
    identity = ours()
    said.observe(identity)
    view = said.view()
    assert (view.env_id, view.dp_id, view.serial, view.not_after) == (ENV, DP, identity.serial, identity.not_after)
