"""The shapes around documents hold what is really answered."""

import pytest
from marshmallow import ValidationError

from aisix_admin.api import shapes
from aisix_common.resources import API_KEYS, MODELS

from tests.support.admin import RunningAdmin

MODEL = {"display_name": "gpt", "provider": "openai", "model_name": "m", "provider_key_id": "k"}


async def test_answers_fit_their_shapes(admin: RunningAdmin) -> None:
    await admin.etcd.put(f"{admin.prefix}/provider_keys/k", b'{"display_name":"k","api_key":"k"}')
    entry = await admin.create("models", MODEL)
    assert shapes.entry(MODELS).validate(entry) == {}
    assert shapes.entries(MODELS).validate([entry]) == {}
    made = await admin.create("api_keys", {"allowed_models": []})
    assert shapes.created(API_KEYS).validate(made) == {}
    assert "plaintext" in shapes.entry(API_KEYS).validate(made), "shown once only"
    assert shapes.Error().validate((await admin.call("GET", "/models/none"))[1]) == {}
    assert shapes.Health().validate((await admin.call("GET", "/health"))[1]) == {}
    history = (await admin.call("GET", f"/models/{entry['id']}/history"))[1]
    assert shapes.Versions().validate(history) == {}
    assert shapes.Audit().validate((await admin.call("GET", "/audit"))[1]) == {}
    export = (await admin.call("GET", "/export"))[1]
    assert shapes.ResourceSet().validate(export) == {}
    assert shapes.SetWritten().validate((await admin.call("POST", "/apply?wait=1s", export))[1]) == {}
    assert shapes.Validation().validate((await admin.call("POST", "/validate", export))[1]) == {}
    rotated = (await admin.call("POST", f"/api_keys/{made['id']}/rotate?wait=0"))[1]
    assert shapes.rotated().validate(rotated) == {} and rotated["applied"]["of"] == 0
    assert shapes.Deleted().validate((await admin.call("DELETE", f"/models/{entry['id']}?wait=0"))[1]) == {}


def test_caller_keys_are_written_with_or_without_a_hash() -> None:
    shape = shapes.written(API_KEYS)
    for document in ({}, {"key": "sk-x"}, {"key_hash": "0" * 64}):
        assert shape.load({**document, "allowed_models": []})
    with pytest.raises(ValidationError, match="other"):
        shape.load({"allowed_models": [], "other": 1})
