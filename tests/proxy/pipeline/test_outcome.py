"""Counters and health after an attempt."""

import pytest

from aisix_proxy.canonical.errors import GatewayError, Misconfigured, UpstreamAborted, UpstreamStatus
from aisix_proxy.pipeline.outcome import failed, succeeded

from tests.support.builders import make, standard


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UpstreamAborted(), "transport_error"),
        (UpstreamStatus(404, "no"), ""),
        (Misconfigured("no"), ""),
    ],
)
async def test_each_failure_is_counted_and_the_providers_own_are_remembered(error: GatewayError, reason: str) -> None:
    world = make(standard(), upstream=object())  # type: ignore[arg-type]
    model = world.services.live.compiled.model("demo-model")
    assert model is not None
    failed(world.services, model, error)
    assert world.services.health.reason("demo-model") == reason
    succeeded(world.services, model)
    assert world.services.health.reason("demo-model") == ""
    assert world.value("aisix_deployment_failure_responses_total", model="demo-model") == 1
    assert world.value("aisix_deployment_success_responses_total", model="demo-model") == 1
