"""Rows name other rows: what must exist when it is written, and what may not go while it is used."""

import asyncio
from typing import Any

import pytest

from tests.support.admin import RunningAdmin
from tests.support.documents import SAMPLES, SET

ROUTE = {**SAMPLES["passthrough_routes"].document, "name": "x", "provider_key_id": "none"}
GROUP = {"display_name": "group", "routing": {"targets": [{"model": "gpt"}]}}


@pytest.fixture
async def stocked(admin: RunningAdmin) -> RunningAdmin:
    """An admin with one resource of every kind, `<kind>-1`."""
    status, body = await admin.call("POST", "/apply", {"resources": [sample.member for sample in SET]})
    assert status == 200, body
    return admin


@pytest.mark.parametrize(
    ("kind", "broken", "at"),
    [
        ("models", {**SAMPLES["models"].document, "display_name": "x", "provider_key_id": "none"}, "/provider_key_id"),
        ("models", {"display_name": "g", "routing": {"targets": [{"model": "none"}]}}, "/routing/targets/0/model"),
        ("guardrail_attachments", {"guardrail_id": "none", "scope_type": "env", "priority": 0}, "/guardrail_id"),
        ("cache_policies", {"name": "x", "applies_to": "model:none"}, "/applies_to"),
        (
            "claim_mappings",
            {**SAMPLES["claim_mappings"].document, "name": "x", "jwt_provider": "none"},
            "/jwt_provider",
        ),
        ("passthrough_routes", ROUTE, "/provider_key_id"),
        (
            "rate_limit_policies",
            {**SAMPLES["rate_limit_policies"].document, "name": "x", "scope_ref": "none"},
            "/scope_ref",
        ),
    ],
)
async def test_what_is_named_must_exist(stocked: RunningAdmin, kind: str, broken: dict[str, Any], at: str) -> None:
    status, body = await stocked.call("POST", f"/{kind}", broken)
    assert status == 400 and [each["path"] for each in body["errors"]] == [at], body
    assert "none" not in body["error_msg"].replace("no resource", "")


async def test_what_callers_may_use_need_not_exist_yet(admin: RunningAdmin) -> None:
    await admin.create("api_keys", {"allowed_models": ["to-come"], "allowed_routes": ["to-come"]})


async def test_what_is_used_does_not_go(stocked: RunningAdmin) -> None:
    status, body = await stocked.call("DELETE", "/provider_keys/provider_keys-1")
    assert status == 409
    assert 'models models-1 ("gpt")' in body["error_msg"] and "passthrough_routes" in body["error_msg"]
    assert "?force=true" in body["error_msg"] and len(body["errors"]) == 2
    assert (await stocked.call("GET", "/provider_keys/provider_keys-1"))[0] == 200
    assert (await stocked.call("DELETE", "/provider_keys/provider_keys-1?force=maybe"))[0] == 400
    assert (await stocked.call("DELETE", "/provider_keys/provider_keys-1?force=true"))[0] == 200
    _, body = await stocked.call("GET", "/audit?limit=1")
    assert body["items"][0]["forced"] is True
    status, _ = await stocked.call("PATCH", "/models/models-1", {"timeout": 7})
    assert status == 200, "a row whose reference dangles already can still be edited"


async def test_a_name_that_is_used_is_not_changed(stocked: RunningAdmin) -> None:
    await stocked.create("models", GROUP)
    status, body = await stocked.call("PATCH", "/models/models-1", {"display_name": "other"})
    assert status == 409 and "group" in body["error_msg"]
    status, _ = await stocked.call("PATCH", "/models/models-1?force=true", {"display_name": "other"})
    assert status == 200


async def test_a_use_and_a_deletion_at_once(admin: RunningAdmin) -> None:
    """Whoever comes second is refused: never a model without its key."""
    for n in range(8):
        key = await admin.create("provider_keys", {"display_name": f"k{n}", "api_key": "k"})
        model = {**SAMPLES["models"].document, "display_name": f"m{n}", "provider_key_id": key["id"]}
        (made, _), (gone, _) = await asyncio.gather(
            admin.call("POST", "/models", model), admin.call("DELETE", f"/provider_keys/{key['id']}")
        )
        assert (made, gone) in ((200, 409), (400, 200))
