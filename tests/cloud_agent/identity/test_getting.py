"""Asking for certificates: only who leads, not before it is time, with a key that is kept before. The rest is seen in
test_keeper."""

from pathlib import Path

import structlog

from aisix_cloud_agent.identity.certificate_status import CertificateStatus
from aisix_cloud_agent.identity.enrollment import Pending
from aisix_cloud_agent.identity.finding import Finder
from aisix_cloud_agent.identity.getting import Getter
from aisix_common.clock import SYSTEM_CLOCK
from aisix_common.metrics import Metrics
from aisix_common.secret import Secret
from aisix_common.settings.control import Bootstrap, Managed

from tests.cloud_agent.keeping import logger, store_of
from tests.cloud_agent.rest_cloud import RestCloud, rest_cloud


class Time:
    at = 100.0

    def __call__(self) -> float:
        return self.at


def getter(managed: Managed, time: Time) -> tuple[Getter, CertificateStatus]:
    store = store_of(managed)
    status = CertificateStatus(SYSTEM_CLOCK, logger(structlog.testing.LogCapture()), Metrics())
    finder = Finder(managed, store, SYSTEM_CLOCK, status)
    made = Getter(managed, store, finder, clock=SYSTEM_CLOCK, random=lambda: 0.0, monotonic=time, status=status)
    return made, status


def with_token(c: RestCloud, token: str) -> Managed:
    return c.managed(Bootstrap(token=Secret(token), ca_pin=c.issuer.pin))


async def test_pauses_double_and_a_token_that_is_refused_is_not_sent_again(tmp_path: Path) -> None:
    async with rest_cloud(tmp_path) as c:
        time = Time()
        made, status = getter(with_token(c, c.token()), time)
        c.troubles.add("/dp/enroll", status=503)
        asked = []
        for second in range(16):
            time.at = 100.0 + second
            before = c.calls("/dp/enroll")
            assert await made.enroll(lambda: True) is None
            if c.calls("/dp/enroll") > before:
                asked.append(second)
        assert asked == [0, 2, 6, 14]
        assert not made.stuck
        c.troubles.clear()
        c.troubles.add("/dp/enroll", status=401)
        time.at += 10_000
        assert await made.enroll(lambda: True) is None
        assert made.stuck
        time.at += 10_000
        assert await made.enroll(lambda: True) is None
        assert c.calls("/dp/enroll") == 5
        assert "new token" in status.view().last_refusal


async def test_an_answer_that_comes_when_somebody_else_leads_is_left_to_them(tmp_path: Path) -> None:
    async with rest_cloud(tmp_path) as c:
        managed = with_token(c, c.token())
        first, _ = getter(managed, Time())
        assert await first.enroll(lambda: False) is None
        assert store_of(managed).load(SYSTEM_CLOCK.now()) is None
        second, _ = getter(managed, Time())
        assert await second.enroll(lambda: True) is not None
        assert len(c.enrolment.issued) == 1


async def test_a_damaged_key_is_made_anew(tmp_path: Path) -> None:
    async with rest_cloud(tmp_path) as c:
        managed = with_token(c, c.token())
        store_of(managed).save_pending(Pending(Secret("canary"), "nothing"))
        made, _ = getter(managed, Time())
        stored = await made.enroll(lambda: True)
        assert stored is not None
        await made.worked(stored.identity)
        assert store_of(managed).load_pending() is None
        assert made.renews
        assert await made.enroll(lambda: True) is None  # the token is forgotten
