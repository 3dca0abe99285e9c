"""What the admin measures."""

import pytest

from aisix_admin.telemetry import Telemetry
from aisix_common.metrics import Metrics, render


async def value() -> int:
    return 5


async def failure() -> int:
    raise KeyError("x")


async def test_requests_and_writes_are_counted() -> None:
    metrics = Metrics()
    telemetry = Telemetry(metrics)
    assert 'aisix_admin_store_writes_total{outcome="busy"} 0.0' in render(metrics.collect()).decode(), "never empty"
    telemetry.settled("committed")
    telemetry.auth_failed("unknown")
    telemetry.answered("GET", "/admin/v1/models", 200)
    assert await telemetry.timed("/admin/v1/models", value()) == 5
    with pytest.raises(KeyError):
        await telemetry.timed("/admin/v1/models", failure())
    text = render(metrics.collect()).decode()
    assert 'aisix_admin_store_writes_total{outcome="committed"} 1.0' in text
    assert 'aisix_admin_requests_total{method="GET",route="/admin/v1/models",status="200"} 1.0' in text
    assert 'aisix_admin_request_duration_seconds_count{route="/admin/v1/models"} 2.0' in text
    assert 'aisix_admin_auth_failures_total{reason="unknown"} 1.0' in text
    assert 'aisix_admin_auth_failures_total{reason="throttled"} 0.0' in text
