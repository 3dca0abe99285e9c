"""Shapes of models, and what is stripped from each."""

from typing import Any

import pytest
from msgspec import UNSET, json

from aisix_common.resources import MODELS, Loaded, check, read

TARGETS = {"targets": [{"model": "a"}]}
PANEL = {"panel": [{"model": "a"}], "judge": {"model": "b"}}
ROUTES = {
    "embedding_model": "e",
    "routes": [{"name": "n", "target": "t", "examples": ["x"]}],
    "default": "d",
    "match": {"threshold": 0.5},
}


@pytest.mark.parametrize(
    ("fields", "shape"),
    [
        ({"provider": "a", "model_name": "b", "provider_key_id": "c"}, "direct"),
        ({"routing": TARGETS}, "routing"),
        ({"ensemble": PANEL}, "ensemble"),
        ({"semantic": ROUTES}, "semantic"),
    ],
)
def test_shape(fields: dict[str, Any], shape: str) -> None:
    assert check(MODELS, {"display_name": "x", **fields}).shape == shape


def test_dead_knobs_are_stripped_when_read() -> None:
    outcome = read(MODELS, json.encode({"display_name": "x", "ensemble": PANEL, "timeout": 5, "retries": 1}))
    assert isinstance(outcome, Loaded)
    assert outcome.value.timeout is UNSET
    assert outcome.value.retries is UNSET


def test_defaults() -> None:
    model = check(MODELS, {"display_name": "x", "routing": TARGETS})
    assert model.routing is not UNSET
    assert model.routing.strategy == "failover"
    assert (model.routing.targets[0].weight, model.routing.targets[0].priority) == (1, 0)
    assert model.timeout is UNSET
