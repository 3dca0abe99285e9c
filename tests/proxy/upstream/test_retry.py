"""The retry rules as a table."""

import pytest

from aisix_proxy.canonical.errors import (
    UpstreamAborted,
    UpstreamError,
    UpstreamInBand,
    UpstreamProtocol,
    UpstreamStatus,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from aisix_proxy.upstream.retry import backoff, retry_policy

TIMEOUT = UpstreamTimeout(5)
BROKEN = UpstreamUnreachable("connect to a:1: connection refused")


@pytest.mark.parametrize(
    ("error", "explicit", "by_default"),
    [
        (BROKEN, True, True),
        (TIMEOUT, True, False),
        (UpstreamProtocol("x"), True, True),
        (UpstreamAborted(), True, True),
        (UpstreamStatus(500, "x"), True, True),
        (UpstreamStatus(503, "x", retry_after=3), True, True),
        (UpstreamStatus(302, "x"), True, True),
        (UpstreamStatus(400, "x"), False, False),
        (UpstreamStatus(429, "x", retry_after=1), False, False),
        (UpstreamInBand("x"), True, True),
        (UpstreamInBand("x", upstream_status=429), False, False),
    ],
)
def test_what_is_tried_again(error: UpstreamError, explicit: bool, by_default: bool) -> None:
    assert retry_policy(1, 2).allows(error, 0) is explicit
    assert retry_policy(None, 2).allows(error, 0) is by_default


@pytest.mark.parametrize(
    ("explicit", "default", "more_targets", "tries"),
    [(None, 2, False, 2), (None, 2, True, 0), (None, 0, False, 0), (0, 2, False, 0), (3, 2, False, 3), (3, 2, True, 3)],
)
def test_how_often(explicit: int | None, default: int, more_targets: bool, tries: int) -> None:
    policy = retry_policy(explicit, default, more_targets=more_targets)
    assert [policy.allows(BROKEN, done) for done in range(5)] == [done < tries for done in range(5)]


@pytest.mark.parametrize(("retry", "seconds"), [(1, 0.25), (2, 0.5), (3, 1.0), (4, 2.0), (5, 2.0), (1000, 2.0)])
def test_backoff_doubles_up_to_a_cap(retry: int, seconds: float) -> None:
    assert backoff(retry, 0.0) == seconds
    assert backoff(retry, 0.5) == pytest.approx(seconds + 0.125)


@pytest.mark.parametrize(
    ("retry_after", "seconds"), [(None, 0.25), (0, 0.25), (1, 1.0), (5, 5.0), (6, 0.25), (-1, 0.25), (10**9, 0.25)]
)
def test_a_providers_wish_is_honoured_when_it_is_reasonable(retry_after: int | None, seconds: float) -> None:
    assert backoff(1, 0.0, retry_after) == seconds
    assert backoff(1, 0.4, retry_after) == pytest.approx(seconds + 0.1)
