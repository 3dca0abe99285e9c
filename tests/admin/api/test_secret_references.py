"""Secret references and secret providers through /admin/v1: stored, shown, edited, gone back to, brought together."""

import json
from typing import Any

import pytest

from aisix_common.secret import MASK

from tests.support.admin import RunningAdmin

TOKEN = "canary-vault-token-5a7d"
VAULT = {
    "manager": "vault",
    "name": "main",
    "uri": "http://127.0.0.1:8200",
    "auth": {"method": "token", "token": TOKEN},
}
LONG = "$secret://vault/main/team/openai"
KEY = {"display_name": "openai", "api_key": LONG, "api_base": "https://api.example.com/v1"}


@pytest.fixture
async def stocked(admin: RunningAdmin) -> RunningAdmin:
    """An admin with the provider `vault/main`, whose id is `v`."""
    members = [{"kind": "secret_providers", "id": "v", "value": VAULT}]
    status, body = await admin.call("POST", "/apply", {"resources": members})
    assert status == 200, body
    return admin


async def test_a_provider_is_a_resource_as_every_other(stocked: RunningAdmin) -> None:
    shown = {**VAULT, "kv_version": "v2", "mount": "secret", "auth": {"method": "token", "token": MASK}}
    status, entry = await stocked.call("GET", "/secret_providers/v")
    assert (status, entry["value"]) == (200, shown)
    assert [one["id"] for one in (await stocked.call("GET", "/secret_providers"))[1]] == ["v"]
    assert (await stocked.call("GET", "/secret_providers?name=vault*"))[0] == 200

    second = await stocked.create("secret_providers", {"manager": "aws", "name": "main", "region": "eu-west-1"})
    assert len(second["id"]) == 36, "names are unique within a manager alone"
    status, body = await stocked.call("POST", "/secret_providers", VAULT)
    assert status == 409 and "already in use" in body["error_msg"]

    path = "/secret_providers/v"
    assert (await stocked.call("PATCH", path, {"kv_version": "v1"}))[0] == 200
    assert (await stocked.call("PUT", path, {**shown, "kv_version": "v1"}))[0] == 200
    assert (await stocked.opened("secret_providers", "v"))["auth"]["token"] == TOKEN
    status, body = await stocked.call("POST", f"{path}/rollback", {"version": 1})
    assert (status, body["value"]) == (200, shown)
    for elsewhere in ({"uri": "http://evil.example"}, {"mount": "other"}, {"namespace": "x"}):
        status, body = await stocked.call("PATCH", path, elsewhere)
        assert status == 400 and body["errors"][0]["path"] == "/auth/token", elsewhere
    audit = (await stocked.call("GET", "/audit?kind=secret_providers&id=v"))[1]["items"]
    assert [one["changes"][0]["action"] for one in audit] == ["rolled_back", "replaced", "patched", "created"]

    assert (await stocked.call("DELETE", path))[0] == 200
    status, body = await stocked.call("POST", f"{path}/restore", {})
    assert status == 400 and body["errors"][0]["path"] == "/auth/token", "history has no secrets"
    status, _ = await stocked.call("POST", f"{path}/restore", {"set": {"auth": {"token": TOKEN}}})
    assert status == 200
    assert TOKEN not in stocked.logged


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"manager": "consul"}, "/manager"),
        ({"auth": {"method": "password"}}, "/auth/method"),
        ({"auth": {"method": "token"}}, "/auth/token"),
        ({"auth": {"method": "token", "token": "$secret://vault/main/x"}}, "/auth/token"),
        ({"auth": {"method": "token", "token": "$env://PATH"}}, "/auth/token"),
        ({"uri": "file:///etc/passwd"}, "/uri"),
        ({"token_file": "/etc/passwd"}, "/token_file"),
    ],
)
async def test_a_provider_that_cannot_be_is_refused(admin: RunningAdmin, change: dict[str, Any], path: str) -> None:
    status, body = await admin.call("POST", "/secret_providers", {**VAULT, **change})
    assert status == 400 and path in [error["path"] for error in body["errors"]]
    assert TOKEN not in json.dumps(body)


async def test_a_reference_is_shown_and_edited_as_it_is(stocked: RunningAdmin) -> None:
    entry = await stocked.create("provider_keys", {**KEY, "api_key": "$SECRET://vault/team/openai"})
    path = f"/provider_keys/{entry['id']}"
    assert entry["value"]["api_key"] == LONG
    value = {**(await stocked.call("GET", path))[1]["value"], "display_name": "renamed"}
    assert (await stocked.call("PUT", path, value))[1]["value"]["api_key"] == LONG
    # Shown in clear, it is given again: it may go along to another destination.
    assert (await stocked.call("PUT", path, {**value, "api_base": "https://b.example"}))[0] == 200
    status, body = await stocked.call("PUT", path, {**value, "api_key": MASK})
    assert status == 400 and body["errors"][0]["path"] == "/api_key", "a mask may not"
    assert (await stocked.opened("provider_keys", entry["id"]))["api_key"] == LONG
    raw = await stocked.etcd.get(stocked.prefix + path)
    assert raw is not None and LONG.encode() in raw.value, "it is no secret, and not encrypted"
    viewed = (await stocked.viewing().call("GET", path))[1]["value"]
    assert viewed["api_key"] == MASK and viewed["display_name"] == "renamed"
    history = await stocked.viewing().send("GET", f"{path}/history")
    assert history.status == 200 and b"$secret" not in history.body


async def test_references_stand_wherever_secrets_do(stocked: RunningAdmin) -> None:
    request = {"default_headers": {"x-a": "$env://AISIX_SECRET_A", "x-b": "plain"}}
    entry = await stocked.create("provider_keys", {**KEY, "request": request})
    assert entry["value"]["request"]["default_headers"] == {"x-a": "$env://AISIX_SECRET_A", "x-b": MASK}
    status, body = await stocked.call(
        "PATCH", f"/provider_keys/{entry['id']}", {"request": {"default_headers": {"x-b": "$env://AISIX_ADMIN_KEY"}}}
    )
    assert status == 400 and body["errors"][0]["path"] == "/request/default_headers/x-b"


async def test_a_caller_key_in_a_manager(stocked: RunningAdmin) -> None:
    """The customer's own example, through both doors."""
    printed, long = "$secret://vault/api-key-path/my-key", "$secret://vault/main/api-key-path/my-key"
    entry = await stocked.create("api_keys", {"key": printed, "allowed_models": []})
    assert "plaintext" not in entry and entry["value"]["key_hash"] == long
    path = f"/api_keys/{entry['id']}"
    assert (await stocked.call("PATCH", path, {"display_name": "alice"}))[1]["value"]["key_hash"] == long
    assert (await stocked.call("POST", f"{path}/rotate"))[0] == 400
    assert (await stocked.viewing().call("GET", path))[1]["value"]["key_hash"] == MASK
    assert (await stocked.call("POST", "/api_keys", {"key": printed, "allowed_models": []}))[0] == 409

    older = f"/aisix/admin/apikeys/{entry['id']}"
    item = (await stocked.call("GET", older))[1]["value"]
    assert item == {"key": long, "allowed_models": []}
    assert (await stocked.call("PUT", older, {**item, "allowed_models": ["a"]}))[1]["value"]["key"] == long
    for at in (older, "/aisix/admin/apikeys"):
        viewed = await stocked.viewing().send("GET", at)
        assert viewed.status == 200 and b"$secret" not in viewed.body
    status, body = await stocked.call("POST", "/aisix/admin/apikeys", {"key": printed, "allowed_models": []})
    assert (status, body["error_msg"]) == (400, "API key already exists")
    status, body = await stocked.call("POST", "/aisix/admin/apikeys", {"key": "$env://HOME", "allowed_models": []})
    assert status == 400 and body["errors"][0]["path"] == "/key"

    member = {"kind": "api_keys", "value": {"key": printed, "allowed_models": ["b"]}}
    status, body = await stocked.call("POST", "/apply", {"resources": [member]})
    assert status == 200 and body["results"][0]["id"] == entry["id"], "found by what it means, however it is spelt"


async def test_a_provider_and_what_refers_to_it_in_one_set(admin: RunningAdmin) -> None:
    members = [
        {"kind": "provider_keys", "id": "k", "value": {**KEY, "api_key": "$secret://vault/team/openai"}},
        {"kind": "secret_providers", "value": VAULT},
    ]
    status, body = await admin.call("POST", "/validate", {"resources": members})
    assert (status, body["valid"]) == (200, True), body
    status, body = await admin.call("POST", "/apply", {"resources": members})
    assert status == 200, body
    assert (await admin.opened("provider_keys", "k"))["api_key"] == LONG
    status, body = await admin.call("POST", "/apply", {"resources": members})
    assert [each["action"] for each in body["results"]] == ["unchanged", "unchanged"], "found by manager and name"
    exported = (await admin.send("GET", "/export")).json
    assert [each["kind"] for each in exported["resources"]] == ["secret_providers", "provider_keys"]
    status, body = await admin.call("POST", "/apply", exported)
    assert [each["action"] for each in body["results"]] == ["unchanged", "unchanged"]
    gone = {"delete": [{"kind": "secret_providers", "id": body["results"][0]["id"]}], "resources": [members[0]]}
    status, body = await admin.call("POST", "/apply", gone)
    assert status in (400, 409), body


async def test_what_looks_encrypted_is_refused(stocked: RunningAdmin) -> None:
    row = await stocked.etcd.get(f"/ext{stocked.prefix}/secret_providers/v")
    assert row is not None
    sealed = json.loads(row.value)["auth"]["token"]
    assert sealed.startswith("enc:v1:")
    for at, document in (
        ("/auth/token", {**VAULT, "name": "other", "auth": {"method": "token", "token": sealed}}),
        ("/auth/token", {**VAULT, "name": "other", "auth": {"method": "token", "token": "enc:v1:x:y"}}),
    ):
        answer = await stocked.send("POST", "/secret_providers", document)
        assert answer.status == 400 and [error["path"] for error in answer.json["errors"]] == [at]
        assert sealed not in answer.body.decode()
