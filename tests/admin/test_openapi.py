"""The description of the API: valid, complete, and as the golden file has it."""

import json
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from aisix_common.resources import ALL_KINDS

from tests.support.admin import RunningAdmin

GOLDEN = Path(__file__).parents[2] / "docs" / "reference" / "admin-openapi.json"


async def described(admin: RunningAdmin) -> dict[str, Any]:
    answer = await admin.send("GET", "/admin/openapi.json", headers={})
    assert answer.status == 200
    document: dict[str, Any] = answer.json
    return document


@pytest.mark.slow
async def test_it_is_valid_openapi_31(admin: RunningAdmin) -> None:
    document = await described(admin)
    assert document["openapi"] == "3.1.0"
    validate(document)


async def test_every_kind_and_call_is_in_it(admin: RunningAdmin) -> None:
    paths = (await described(admin))["paths"]
    assert {"/admin/v1/health", "/admin/v1/models/status"} <= set(paths)
    for kind in ALL_KINDS:
        assert set(paths[f"/admin/v1/{kind.name}"]) == {"get", "post"}
        assert set(paths[f"/admin/v1/{kind.name}/{{id}}"]) >= {"get", "put", "delete"}


async def test_schemas_say_what_is_checked(admin: RunningAdmin) -> None:
    schemas = (await described(admin))["components"]["schemas"]
    model = schemas["Model"]
    assert model["additionalProperties"] is False
    assert model["required"] == ["display_name"]
    assert model["properties"]["provider"]["pattern"] == "^[a-z0-9][a-z0-9._-]*$"
    assert model["properties"]["provider"]["maxLength"] == 64
    assert schemas["ModelRouting"]["properties"]["targets"]["minItems"] == 1
    assert len(schemas["ModelSemantic"]["properties"]["on_embedding_failure"]["anyOf"]) == 2
    assert schemas["Guardrail"]["discriminator"]["mapping"]["pii"] == "#/components/schemas/GuardrailPii"
    assert {"$ref": "#/components/schemas/GuardrailPii"} in schemas["Guardrail"]["oneOf"]
    assert schemas["GuardrailPii"]["properties"]["kind"]["enum"] == ["pii"]
    assert schemas["GuardrailPii"]["additionalProperties"] is False
    assert schemas["CachePolicy"].get("additionalProperties") is not False
    children = schemas["RateLimitPolicyCondition"]["properties"]["children"]
    assert children["items"] == {"$ref": "#/components/schemas/RateLimitPolicyCondition"}
    assert schemas["ProviderKey"]["properties"]["api_key"]["format"] == "password"
    assert schemas["ApiKey"]["required"] == ["allowed_models", "key_hash"]
    assert schemas["ApiKeyWrite"]["required"] == ["allowed_models"]
    assert "key" in schemas["ApiKeyWrite"]["properties"]


async def test_the_golden_file(admin: RunningAdmin, request: pytest.FixtureRequest) -> None:
    text = json.dumps(await described(admin), indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    if request.config.getoption("--update-golden", default=False):
        GOLDEN.write_text(text)
    assert GOLDEN.read_text() == text, f"{GOLDEN.name} differs; if the change is meant: make golden"
