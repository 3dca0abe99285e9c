"""History, diffs, going back, bringing back: nothing secret is kept, and no step back opens a door again."""

import json
from typing import Any

import pytest

from aisix_common.secret import MASK

from tests.support.admin import RunningAdmin, running_admin
from tests.support.documents import SAMPLES, SECRET, SET
from tests.support.etcd import EtcdServer

MODEL = {"display_name": "gpt", "provider": "openai", "model_name": "a", "provider_key_id": "provider_keys-1"}


@pytest.fixture
async def stocked(admin: RunningAdmin) -> RunningAdmin:
    """An admin with one resource of every kind, `<kind>-1`."""
    status, body = await admin.call("POST", "/apply", {"resources": [sample.member for sample in SET]})
    assert status == 200, body
    return admin


async def versions(admin: RunningAdmin, path: str) -> list[dict[str, Any]]:
    """The history, newest first."""
    status, body = await admin.call("GET", f"{path}/history")
    assert status == 200, body
    found: list[dict[str, Any]] = body["versions"]
    return found


async def test_every_write_is_a_version(stocked: RunningAdmin) -> None:
    path = "/models/models-1"
    _, patched = await stocked.call("PATCH", path, {"model_name": "b", "timeout": 5})
    await stocked.call("DELETE", f"{path}?force=true")
    newest, middle, first = await versions(stocked, path)
    assert [newest["action"], middle["action"], first["action"]] == ["deleted", "patched", "created"]
    assert [each["version"] for each in (newest, middle, first)] == [3, 2, 1]
    assert newest["value"] is None and middle["value"] == patched["value"]
    assert middle["revision"] == patched["revision"] < newest["revision"]
    assert middle["changed"] == ["/model_name", "/timeout"] and middle["by"] == "key-1" and middle["at"].endswith("Z")
    status, body = await stocked.call("GET", f"{path}/history/diff?from=1&to=2")
    assert status == 200
    assert body["changes"] == [
        {"path": "/model_name", "from": "gpt-4o", "to": "b"},
        {"path": "/timeout", "from": 0, "to": 5},
    ]
    for wrong in ("from=1", "from=1&to=x", "from=1&to=99"):
        assert (await stocked.call("GET", f"{path}/history/diff?{wrong}"))[0] == 400
    assert (await stocked.call("GET", "/models/none/history"))[0] == 404


async def test_what_others_wrote_is_a_version_too(admin: RunningAdmin) -> None:
    await admin.etcd.put(f"{admin.prefix}/provider_keys/x", b'{"display_name":"theirs","api_key":"sk"}')
    (found,) = await versions(admin, "/provider_keys/x")
    assert found["action"] == "found" and found["by"] is None and found["value"]["api_key"] == MASK
    await admin.call("PATCH", "/provider_keys/x", {"provider": "openai", "api_key": "sk"})
    await admin.etcd.put(f"{admin.prefix}/provider_keys/x", b'{"display_name":"theirs again","api_key":"sk"}')
    await admin.call("PATCH", "/provider_keys/x", {"display_name": "ours"})
    found_actions = [each["action"] for each in await versions(admin, "/provider_keys/x")]
    assert found_actions == ["patched", "found", "patched", "found"]


async def test_only_the_last_versions_are_kept(etcd: EtcdServer, etcd_prefix: str) -> None:
    async with running_admin(etcd.endpoint, etcd_prefix, history_versions=3) as admin:
        entry = await admin.create("provider_keys", {"display_name": "a", "api_key": "k"})
        for n in range(5):
            await admin.call("PATCH", f"/provider_keys/{entry['id']}", {"telemetry_tags": {"pk_label": str(n)}})
        assert [each["version"] for each in await versions(admin, f"/provider_keys/{entry['id']}")] == [6, 5, 4]


async def test_going_back_keeps_the_present_credential(stocked: RunningAdmin) -> None:
    path = "/provider_keys/provider_keys-1"
    await stocked.call("PATCH", path, {"display_name": "renamed", "api_key": "sk-new", "strip_headers": []})
    status, body = await stocked.call("POST", f"{path}/rollback", {"version": 1})
    assert status == 200, body
    assert body["value"]["display_name"] == "openai"
    assert (await stocked.opened("provider_keys", "provider_keys-1"))["api_key"] == "sk-new"
    assert (await versions(stocked, path))[0]["action"] == "rolled_back"


async def test_going_back_to_another_destination_needs_the_secret(stocked: RunningAdmin) -> None:
    path = "/provider_keys/provider_keys-1"
    moved = {"api_base": "https://new.example.com", "api_key": "sk-new", "request": None}
    status, body = await stocked.call("PATCH", path, moved)
    assert status == 200, body
    status, body = await stocked.call("POST", f"{path}/rollback", {"version": 1})
    assert status == 400 and SECRET not in json.dumps(body)
    given = {"api_key": "sk-back", "request": None}
    status, body = await stocked.call("POST", f"{path}/rollback", {"version": 1, "set": given})
    assert status == 200 and body["value"]["api_base"] == "https://api.example.com/v1", body


async def test_a_caller_key_never_gets_back_what_it_lost(admin: RunningAdmin) -> None:
    entry = await admin.create("api_keys", {"allowed_models": ["a"], "expires_at": "2040-01-01T00:00:00Z"})
    path = f"/api_keys/{entry['id']}"
    await admin.call("POST", f"{path}/rotate", {"overlap_seconds": 60})
    limits = {"allowed_models": ["b"], "disabled": True, "expires_at": "2030-01-01T00:00:00Z"}
    _, before = await admin.call("PATCH", path, limits)
    status, body = await admin.call("POST", f"{path}/rollback", {"version": 1})
    assert status == 200 and body["value"] == {**before["value"], "allowed_models": ["a"]}
    await admin.call("PATCH", path, {"disabled": False})
    await admin.call("DELETE", path)
    status, body = await admin.call("POST", f"{path}/restore", {"version": 1})
    assert status == 200, body
    assert body["value"] == {**before["value"], "allowed_models": ["a"], "disabled": True}
    assert body["id"] == entry["id"]


async def test_a_deleted_resource_comes_back(stocked: RunningAdmin) -> None:
    path = "/provider_keys/provider_keys-1"
    assert (await stocked.call("POST", f"{path}/restore"))[0] == 409, "it is there"
    await stocked.call("DELETE", f"{path}?force=true")
    status, body = await stocked.call("POST", f"{path}/restore")
    assert status == 400 and body["errors"][0]["path"] == "/api_key", "history has no secrets"
    status, body = await stocked.call("POST", f"{path}/restore", {"set": {"api_key": "sk-again", "request": None}})
    assert status == 200 and body["value"]["display_name"] == "openai", body
    assert [each["action"] for each in await versions(stocked, path)] == ["restored", "deleted", "created"]
    assert (await stocked.call("POST", "/models/none/restore"))[0] == 404


async def test_purge_forgets(stocked: RunningAdmin) -> None:
    path = "/cache_policies/cache_policies-1"
    assert (await stocked.call("DELETE", f"{path}?purge=true"))[0] == 200
    _, told = await stocked.call("GET", "/audit?action=purged")
    assert [change["id"] for change in told["items"][0]["changes"]] == ["cache_policies-1"], "that it was erased stays"
    assert (await stocked.call("GET", f"{path}/history"))[0] == 404
    await stocked.call("DELETE", "/a2a_agents/a2a_agents-1")
    assert len(await versions(stocked, "/a2a_agents/a2a_agents-1")) == 2
    assert (await stocked.call("DELETE", "/a2a_agents/a2a_agents-1?purge=true"))[0] == 200, "also later"
    assert (await stocked.call("DELETE", "/a2a_agents/a2a_agents-1?purge=true"))[0] == 404
    state = await stocked.etcd.range(f"/run{stocked.prefix}/history/")
    assert not [row.key for row in state.rows if "a2a_agents" in row.key or "cache_policies" in row.key]
    assert (await stocked.call("PATCH", "/models/models-1?purge=true", {}))[0] == 200
    assert len(await versions(stocked, "/models/models-1")) == 2, "an edit erases nothing"


@pytest.mark.parametrize("kind", list(SAMPLES))
async def test_every_kind_goes_back(stocked: RunningAdmin, kind: str) -> None:
    path = f"/{kind}/{kind}-1"
    _, first = await stocked.call("GET", path)
    status, body = await stocked.call("PATCH", path, dict(SAMPLES[kind].changed))
    assert status == 200, body
    status, body = await stocked.call("POST", f"{path}/rollback", {"version": 1})
    assert status == 200, body
    assert body["value"] == first["value"]


@pytest.mark.parametrize(
    "body",
    [{}, {"version": "1"}, {"version": 0}, {"version": True}, {"version": 99}, {"version": 1, "set": []}, {"x": 1}],
)
async def test_steps_that_make_no_sense(stocked: RunningAdmin, body: Any) -> None:
    status, answer = await stocked.call("POST", "/models/models-1/rollback", body)
    assert status == 400, answer


async def test_a_restored_caller_key_is_disabled_whatever_is_asked(admin: RunningAdmin) -> None:
    entry = await admin.create("api_keys", {"allowed_models": []})
    path = f"/api_keys/{entry['id']}"
    await admin.call("DELETE", path)
    status, body = await admin.call("POST", f"{path}/restore", {"set": {"disabled": False}})
    assert status == 200 and body["value"]["disabled"] is True
