"""The shapes around documents hold what is really answered."""

import pytest
from marshmallow import ValidationError

from aisix_admin.api import shapes
from aisix_common.resources import API_KEYS, MODELS

from tests.support.admin import RunningAdmin

MODEL = {"display_name": "gpt", "provider": "openai", "model_name": "m", "provider_key_id": "k"}


async def test_answers_fit_their_shapes(admin: RunningAdmin) -> None:
    entry = await admin.create("models", MODEL)
    assert shapes.entry(MODELS).validate(entry) == {}
    assert shapes.entries(MODELS).validate([entry]) == {}
    made = await admin.create("api_keys", {"allowed_models": []})
    assert shapes.created(API_KEYS).validate(made) == {}
    assert "plaintext" in shapes.entry(API_KEYS).validate(made), "shown once only"
    assert shapes.Error().validate((await admin.call("GET", "/models/none"))[1]) == {}
    assert shapes.Health().validate((await admin.call("GET", "/health"))[1]) == {}
    assert shapes.Deleted().validate((await admin.call("DELETE", f"/models/{entry['id']}"))[1]) == {}


def test_caller_keys_are_written_with_or_without_a_hash() -> None:
    shape = shapes.written(API_KEYS)
    for document in ({}, {"key": "sk-x"}, {"key_hash": "0" * 64}):
        assert shape.load({**document, "allowed_models": []})
    with pytest.raises(ValidationError, match="other"):
        shape.load({"allowed_models": [], "other": 1})
