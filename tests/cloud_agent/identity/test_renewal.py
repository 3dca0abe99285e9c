"""When to renew, when to try again, when to alarm: tables, and bounds that hold for every chance."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisix_cloud_agent.identity.identity import Identity
from aisix_cloud_agent.identity.renewal import Alarm, alarm, renew_at, retry_in

from tests.cloud_agent.issuing import DAY, DP, ENV, NOW

HOUR, MINUTE, SECOND = dt.timedelta(hours=1), dt.timedelta(minutes=1), dt.timedelta(seconds=1)
CHANCE = st.floats(0, 1, exclude_max=True)


def lasting(lifetime: dt.timedelta) -> Identity:
    return Identity(ENV, DP, NOW, NOW + lifetime, "1", "0" * 64)


def test_two_thirds_into_the_lifetime() -> None:
    quarter = lasting(90 * DAY)
    assert abs(renew_at(quarter, 0.5) - (NOW + 60 * DAY)) < SECOND
    assert abs(renew_at(quarter, 0.0) - (NOW + 57 * DAY)) < SECOND


@given(CHANCE, st.integers(60, 10 * 365 * 86_400))
def test_never_far_from_it_and_before_any_alarm(chance: float, seconds: int) -> None:
    identity = lasting(seconds * SECOND)
    at = renew_at(identity, chance)
    assert 0.63 < (at - NOW) / identity.lifetime < 0.701
    assert alarm(identity, at) is Alarm.NONE


@pytest.mark.parametrize(
    ("failures", "left", "wait", "seconds"),
    [
        (1, None, None, 2),
        (2, None, None, 4),
        (6, None, None, 64),
        (12, None, None, 3600),
        (10_000, None, None, 3600),
        (1, None, 30, 30),
        (8, None, 30, 256),
        (1, None, 10**9, 3600),
        (12, 30 * DAY, None, 3600),
        (12, 5 * HOUR, None, 1800),
        (12, MINUTE, None, 10),
        (12, -DAY, None, 10),
        (1, MINUTE, 600, 10),
    ],
)
def test_waiting(failures: int, left: dt.timedelta | None, wait: int | None, seconds: int) -> None:
    assert retry_in(failures, 0.0, left, wait) == seconds * SECOND


@given(st.integers(1, 2000), CHANCE)
def test_jitter_takes_a_half_at_most(failures: int, chance: float) -> None:
    longest = retry_in(failures, 0.0)
    assert longest / 2 - SECOND / 1000 <= retry_in(failures, chance) <= longest


def test_what_the_cloud_asks_for_is_a_minimum() -> None:
    assert retry_in(1, 0.99, wait=30) >= 30 * SECOND


def test_a_token_is_used_often_while_it_is_good() -> None:
    waited = [sum((retry_in(n, 0.0) for n in range(1, tries + 1)), dt.timedelta()) for tries in range(1, 9)]
    assert waited[5] < 130 * SECOND and waited[7] < 10 * MINUTE


@pytest.mark.parametrize(
    ("lifetime", "left", "level"),
    [
        (90 * DAY, 60 * DAY, Alarm.NONE),
        (90 * DAY, 23 * DAY, Alarm.NONE),
        (90 * DAY, 22.5 * DAY, Alarm.SOON),
        (90 * DAY, 7.1 * DAY, Alarm.SOON),
        (90 * DAY, 7 * DAY, Alarm.URGENT),
        (365 * DAY, 31 * DAY, Alarm.NONE),
        (365 * DAY, 30 * DAY, Alarm.SOON),
        (10 * DAY, 2.6 * DAY, Alarm.NONE),
        (10 * DAY, 2.5 * DAY, Alarm.SOON),
        (10 * DAY, 1 * DAY, Alarm.URGENT),
        (90 * DAY, SECOND, Alarm.URGENT),
        (90 * DAY, 0 * DAY, Alarm.EXPIRED),
        (90 * DAY, -DAY, Alarm.EXPIRED),
    ],
)
def test_alarms(lifetime: dt.timedelta, left: dt.timedelta, level: Alarm) -> None:
    assert alarm(lasting(lifetime), NOW + lifetime - left) is level


@given(st.integers(1, 4000), st.integers(-10, 4000), st.integers(-10, 4000))
def test_an_alarm_never_falls_as_time_goes_on(days: int, first: int, second: int) -> None:
    early, late = sorted((first, second))
    identity = lasting(days * DAY)
    assert alarm(identity, NOW + early * DAY) <= alarm(identity, NOW + late * DAY)
