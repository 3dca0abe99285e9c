"""Levels by consecutive failures, and which failures are the provider's."""

import pytest

from aisix_common.model_status import ModelNews
from aisix_proxy.canonical.errors import (
    UpstreamAborted,
    UpstreamError,
    UpstreamInBand,
    UpstreamProtocol,
    UpstreamStatus,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from aisix_proxy.telemetry.model_health import ModelHealth, reason_of

DOWN = UpstreamStatus(503, "down")


def test_levels() -> None:
    health = ModelHealth()
    levels = []
    for _ in range(9):
        health.failed("m", DOWN)
        levels.append(health.level("m"))
    assert levels == [0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert health.unhealthy() == {"m": 2}
    health.failed("only once", DOWN)
    assert health.news() == ModelNews({"m": 2}, {"m": "upstream_server_error"})
    health.succeeded("only once")
    health.succeeded("m")
    assert (health.level("m"), health.reason("m"), health.unhealthy()) == (0, "", {})


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UpstreamStatus(401, ""), "upstream_auth_failure"),
        (UpstreamStatus(408, ""), "upstream_request_timeout"),
        (UpstreamStatus(429, ""), "upstream_rate_limited"),
        (UpstreamStatus(400, ""), ""),
        (UpstreamStatus(404, ""), ""),
        (UpstreamStatus(302, ""), "upstream_status_failure"),
        (UpstreamStatus(500, ""), "upstream_server_error"),
        (UpstreamTimeout(1), "request_timeout"),
        (UpstreamUnreachable("x"), "transport_error"),
        (UpstreamAborted(), "transport_error"),
        (UpstreamProtocol("x"), "upstream_decode_error"),
        (UpstreamInBand("x"), "upstream_in_band_error"),
        (UpstreamInBand("x", upstream_status=400), ""),
    ],
)
def test_reasons(error: UpstreamError, reason: str) -> None:
    assert reason_of(error) == reason
    health = ModelHealth()
    health.failed("m", error)
    assert health.reason("m") == reason


def test_models_that_are_gone_are_forgotten() -> None:
    health = ModelHealth()
    health.failed("a", DOWN)
    health.failed("b", DOWN)
    health.forget({"b": 1})
    assert (health.reason("a"), health.reason("b")) == ("", "upstream_server_error")
