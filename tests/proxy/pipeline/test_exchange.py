"""What header templates may know of an exchange."""

import pytest

from aisix_common.resources import hash_key
from aisix_proxy.pipeline.exchange import Attempt

from tests.support.builders import KEY, api_key, exchange_of, make, model, provider_key, snapshot_of


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("request.id", "request-1"),
        ("request.api_key.id", "key-1"),
        ("request.api_key.name", "label"),
        ("request.api_key.team_id", "t"),
        ("request.api_key.user_id", None),
        ("request.api_key.key_hash", None),
        ("model.id", "id-demo-model"),
        ("model.name", "demo-model"),
        ("provider_key.name", "acme"),
        ("provider_key.api_key", None),
        ("nonsense", None),
    ],
)
async def test_variables(name: str, value: str | None) -> None:
    world = make(snapshot_of(provider_key(), model(), api_key(display_name="label", team_id="t")))
    exchange = exchange_of(world)
    assert exchange.variable("request.api_key.id") is None
    assert exchange.variable("model.id") is None
    exchange.key = exchange.compiled.key(hash_key(KEY))
    found = exchange.compiled.model("demo-model")
    assert found is not None
    exchange.attempts.append(Attempt(found, "initial"))
    assert exchange.variable(name) == value
    assert exchange.caller_headers["authorization"] == f"Bearer {KEY}"
