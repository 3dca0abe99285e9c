"""The five calls on every kind, over a socket, on a real etcd."""

import asyncio
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pytest

from aisix_common.resources import KINDS
from aisix_common.secret import MASK

from tests.support.admin import RunningAdmin

SECRET = "sk-canary-provider-credential-9d2e"
HEADER = "canary-header-value-61b0"
FIELD = "canary-body-field-44af"

DOCUMENTS: Mapping[str, Mapping[str, Any]] = {
    "provider_keys": {
        "display_name": "openai",
        "api_key": SECRET,
        "api_base": "https://api.example.com/v1",
        "request": {"default_headers": {"x-team": HEADER}, "default_body_fields": {"user": {"name": FIELD}}},
        "tls": {"verify": True},
    },
    "models": {
        "display_name": "gpt",
        "provider": "openai",
        "model_name": "gpt-4o",
        "provider_key_id": "any",
        "timeout": 0,
        "rate_limit": {"rpm": 5},
        "cost": {"input_per_1k": 0.5, "output_per_1k": 1},
    },
    "api_keys": {
        "key_hash": hashlib.sha256(b"sk-somebody").hexdigest(),
        "allowed_models": ["gpt", "claude-*"],
        "display_name": "Somebody",
        "team_id": "team",
        "expires_at": "2030-01-31T12:00:00Z",
        "mcp_rate_limits": {"files": {"rpm": 1}},
    },
}
CHANGED: Mapping[str, Mapping[str, Any]] = {
    "provider_keys": {"strip_headers": ["cookie"]},
    "models": {"model_name": "gpt-4.1"},
    "api_keys": {"allowed_models": []},
}
ANY_KIND = pytest.mark.parametrize("kind", [kind.name for kind in KINDS])


@ANY_KIND
async def test_a_resource_lives_from_post_to_delete(admin: RunningAdmin, kind: str) -> None:
    status, created = await admin.call("POST", f"/{kind}", dict(DOCUMENTS[kind]))
    assert status == 200, created
    assert set(created) == {"id", "value", "revision"}
    id = created["id"]
    assert len(id) == 36 and id[14] == "4", "the server chooses a UUID v4"
    row = await admin.etcd.get(f"{admin.prefix}/{kind}/{id}")
    assert row is not None and row.mod_revision == created["revision"]

    assert await admin.call("GET", f"/{kind}/{id}") == (200, created)
    assert await admin.call("GET", f"/{kind}") == (200, [created])

    status, replaced = await admin.call("PUT", f"/{kind}/{id}", {**created["value"], **CHANGED[kind]})
    assert status == 200, replaced
    assert replaced["id"] == id and replaced["revision"] > created["revision"]
    assert replaced["value"] == {**created["value"], **CHANGED[kind]}
    assert await admin.call("GET", f"/{kind}/{id}") == (200, replaced)

    assert await admin.call("DELETE", f"/{kind}/{id}") == (200, {"deleted": True, "id": id})
    assert await admin.etcd.get(f"{admin.prefix}/{kind}/{id}") is None
    for method in ("GET", "DELETE"):
        status, body = await admin.call(method, f"/{kind}/{id}")
        assert (status, body["error_msg"]) == (404, "resource not found")
    status, body = await admin.call("PUT", f"/{kind}/{id}", dict(DOCUMENTS[kind]))
    assert (status, body["error_msg"]) == (404, "resource not found"), "a PUT never creates"
    assert await admin.call("GET", f"/{kind}") == (200, [])


@ANY_KIND
async def test_get_edit_put_loses_nothing(admin: RunningAdmin, kind: str) -> None:
    entry = await admin.create(kind, DOCUMENTS[kind])
    key = f"{admin.prefix}/{kind}/{entry['id']}"
    before = await admin.etcd.get(key)
    _, shown = await admin.call("GET", f"/{kind}/{entry['id']}")
    status, _ = await admin.call("PUT", f"/{kind}/{entry['id']}", shown["value"])
    after = await admin.etcd.get(key)
    assert status == 200 and before is not None and after is not None
    assert json.loads(after.value) == json.loads(before.value)
    for name, value in DOCUMENTS[kind].items():
        if not isinstance(value, dict):
            assert json.loads(after.value)[name] == value


async def test_no_answer_log_or_metric_shows_a_secret(admin: RunningAdmin) -> None:
    seen: list[str] = []

    async def note(method: str, path: str, body: object = None) -> Any:
        answer = await admin.send(method, path, body)
        seen.append(answer.body.decode() + repr(answer.headers))
        return answer.json

    document = dict(DOCUMENTS["provider_keys"])
    entry = await note("POST", "/provider_keys", document)
    assert entry["value"]["api_key"] == MASK
    assert entry["value"]["request"] == {"default_headers": {"x-team": MASK}, "default_body_fields": {"user": MASK}}
    path = f"/provider_keys/{entry['id']}"
    await note("GET", path)
    await note("GET", "/provider_keys")
    await note("POST", "/provider_keys", document)  # 409
    await note("POST", "/provider_keys", {**document, "display_name": 1, "api_key": {SECRET: FIELD}, "tls": HEADER})
    await note("PUT", path, {**document, "adapter": SECRET, "response": {"stream_done_marker": FIELD}})
    await note("POST", "/provider_keys", f'{{"api_key": "{SECRET}", "x": {HEADER}'.encode())
    await note("POST", "/api_keys", {"key": SECRET, "allowed_models": HEADER})
    await admin.etcd.put(f"{admin.prefix}/provider_keys/bad", json.dumps({"api_key": [SECRET, FIELD]}).encode())
    await note("GET", "/provider_keys/bad")
    await note("GET", "/provider_keys")
    await note("DELETE", path)
    everything = "\n".join([*seen, admin.logged, admin.scraped])
    for canary in (SECRET, HEADER, FIELD, "admin-key-canary"):
        assert canary not in everything


async def test_masks_keep_what_is_stored(admin: RunningAdmin) -> None:
    entry = await admin.create("provider_keys", DOCUMENTS["provider_keys"])
    path = f"/provider_keys/{entry['id']}"
    value = {**entry["value"], "display_name": "renamed"}
    value["request"] = {**value["request"], "default_headers": {"x-team": MASK, "x-new": "fresh"}}
    status, _ = await admin.call("PUT", path, value)
    assert status == 200
    row = await admin.etcd.get(f"{admin.prefix}{path}")
    assert row is not None
    stored = json.loads(row.value)
    assert stored["api_key"] == SECRET
    assert stored["request"]["default_headers"] == {"x-team": HEADER, "x-new": "fresh"}
    assert stored["request"]["default_body_fields"] == {"user": {"name": FIELD}}
    older = {("secret" if name == "api_key" else name): item for name, item in value.items()}
    status, body = await admin.call("PUT", path, older)
    assert status == 200, body


@pytest.mark.parametrize(
    "moved",
    [
        {"api_base": "https://evil.example.com"},
        {"api_base": None},
        {"adapter": "anthropic"},
        {"provider": "other"},
        {"tls": {"verify": False}},
        {"tls": None},
        {"tls": {"verify": True, "ca_cert": "PEM"}},
    ],
)
async def test_a_secret_does_not_follow_to_another_place(admin: RunningAdmin, moved: Mapping[str, Any]) -> None:
    entry = await admin.create("provider_keys", DOCUMENTS["provider_keys"])
    path = f"/provider_keys/{entry['id']}"
    value = {**entry["value"], **moved}
    status, body = await admin.call("PUT", path, value)
    assert status == 400
    assert {problem["path"] for problem in body["errors"]} == {
        "/api_key",
        "/request/default_headers/x-team",
        "/request/default_body_fields/user",
    }
    row = await admin.etcd.get(f"{admin.prefix}{path}")
    assert row is not None and row.mod_revision == entry["revision"], "nothing was written"
    given = {**value, "api_key": "new", "request": None}
    status, body = await admin.call("PUT", path, given)
    assert status == 200, body


async def test_a_mask_with_nothing_behind_it_is_refused(admin: RunningAdmin) -> None:
    status, body = await admin.call("POST", "/provider_keys", {"display_name": "x", "api_key": MASK})
    assert status == 400 and body["errors"][0]["path"] == "/api_key"
    entry = await admin.create("provider_keys", {"display_name": "x", "api_key": "k"})
    value = {**entry["value"], "request": {"default_headers": {"authorization": MASK}}}
    status, body = await admin.call("PUT", f"/provider_keys/{entry['id']}", value)
    assert status == 400 and body["errors"][0]["path"] == "/request/default_headers/authorization"


async def test_all_problems_come_at_once(admin: RunningAdmin) -> None:
    status, body = await admin.call(
        "POST",
        "/models",
        {"display_name": "", "provider": "UPPER", "retries": -1, "bogus": 1, "rate_limit": {"rpm": "5"}},
    )
    assert status == 400
    assert body["error_msg"] == "schema validation failed at /display_name: must have at least 1 character"
    assert [problem["path"] for problem in body["errors"]] == [
        "/display_name",
        "/provider",
        "/retries",
        "/rate_limit/rpm",
        "/bogus",
    ]
    status, body = await admin.call("POST", "/models", {"display_name": "x", "model_name": "y"})
    assert status == 400 and len(body["errors"]) == 2, "rules between fields come after the fields"
    wrong = {"display_name": 5, "allowed_models": "x", "nope": 1, "key_hash": "short"}
    status, body = await admin.call("POST", "/api_keys", wrong)
    paths = ["/key_hash", "/allowed_models", "/display_name", "/nope"]
    assert status == 400 and [problem["path"] for problem in body["errors"]] == paths
    status, body = await admin.call("POST", "/api_keys", {"key": 5, "nope": 1, "allowed_models": []})
    assert status == 400 and [problem["path"] for problem in body["errors"]] == ["/key", "/nope"]
    status, body = await admin.call("POST", "/models", {**DOCUMENTS["models"], "timeout": 1.0})
    assert status == 400 and body["error_msg"].startswith("malformed Model payload: ")


@ANY_KIND
async def test_a_name_is_taken_once(admin: RunningAdmin, kind: str) -> None:
    document = dict(DOCUMENTS[kind])
    name_field = "key_hash" if kind == "api_keys" else "display_name"
    first = await admin.create(kind, document)
    status, body = await admin.call("POST", f"/{kind}", document)
    assert status == 409
    if kind == "api_keys":
        assert document["key_hash"] not in json.dumps(body)
    else:
        assert body["error_msg"] == f'name "{document[name_field]}" already in use by another resource'
    other = "0" * 64 if kind == "api_keys" else "other"
    second = await admin.create(kind, {**document, name_field: other})
    status, _ = await admin.call("PUT", f"/{kind}/{second['id']}", document)
    assert status == 409
    status, _ = await admin.call("PUT", f"/{kind}/{first['id']}", document)
    assert status == 200, "a resource may keep its own name"
    await admin.call("DELETE", f"/{kind}/{first['id']}")
    status, _ = await admin.call("PUT", f"/{kind}/{second['id']}", document)
    assert status == 200, "a name is free once its holder is gone"


async def test_of_twenty_creators_of_one_name_one_wins(admin: RunningAdmin) -> None:
    answers = await asyncio.gather(*(admin.call("POST", "/models", dict(DOCUMENTS["models"])) for _ in range(20)))
    assert sorted(status for status, _ in answers) == [200] + [409] * 19
    _, listed = await admin.call("GET", "/models")
    assert len(listed) == 1


async def test_two_puts_at_once_leave_one_of_the_two(admin: RunningAdmin) -> None:
    entry = await admin.create("models", DOCUMENTS["models"])
    wanted = [{**entry["value"], "model_name": f"model-{n}"} for n in range(2)]
    answers = await asyncio.gather(*(admin.call("PUT", f"/models/{entry['id']}", value) for value in wanted))
    assert [status for status, _ in answers] == [200, 200]
    _, now = await admin.call("GET", f"/models/{entry['id']}")
    assert now["value"] in wanted
    assert now["revision"] == max(body["revision"] for _, body in answers)


async def test_rows_that_are_no_documents(admin: RunningAdmin) -> None:
    entry = await admin.create("models", DOCUMENTS["models"])
    await admin.etcd.put(f"{admin.prefix}/models/bad", b'{"display_name": 5}')
    assert await admin.call("GET", "/models") == (200, [entry])
    assert "row left out of a list" in admin.logged
    status, body = await admin.call("GET", "/models/bad")
    assert status == 500 and "PUT" in body["error_msg"]
    status, _ = await admin.call("PUT", "/models/bad", {**DOCUMENTS["models"], "display_name": "good"})
    assert status == 200, "PUT is the way to repair a row"


async def test_unknown_fields_of_foreign_writers_are_not_shown(admin: RunningAdmin) -> None:
    row = {**DOCUMENTS["models"], "future_knob": "canary-unknown"}
    await admin.etcd.put(f"{admin.prefix}/models/foreign", json.dumps(row).encode())
    answer = await admin.send("GET", "/models/foreign")
    assert answer.status == 200 and b"canary-unknown" not in answer.body
    status, body = await admin.call("PUT", "/models/foreign", {**answer.json["value"], "model_name": "new"})
    assert status == 200 and "canary-unknown" not in json.dumps(body)
    stored = await admin.etcd.get(f"{admin.prefix}/models/foreign")
    assert stored is not None and json.loads(stored.value)["future_knob"] == "canary-unknown", "written back unseen"
    assert json.loads(stored.value)["model_name"] == "new"
    status, body = await admin.call("PUT", "/models/foreign", row)
    assert status == 400 and body["errors"][0]["path"] == "/future_knob"


class TestCallerKeys:
    """How a caller key comes in."""

    async def test_the_gateway_makes_one_and_shows_it_once(self, admin: RunningAdmin) -> None:
        entry = await admin.create("api_keys", {"allowed_models": ["*"]})
        plaintext = entry.pop("plaintext")
        assert plaintext.startswith("sk-") and len(plaintext) >= 35
        assert hashlib.sha256(plaintext.encode()).hexdigest() == entry["value"]["key_hash"]
        assert await admin.call("GET", f"/api_keys/{entry['id']}") == (200, entry)
        other = await admin.create("api_keys", {"allowed_models": []})
        assert other["plaintext"] != plaintext
        row = await admin.etcd.get(f"{admin.prefix}/api_keys/{entry['id']}")
        assert row is not None and plaintext.encode() not in row.value
        assert plaintext not in admin.logged

    async def test_a_plaintext_is_hashed_at_the_door(self, admin: RunningAdmin) -> None:
        entry = await admin.create("api_keys", {"key": "sk-my-api-key-123", "allowed_models": []})
        assert entry["value"]["key_hash"] == "91ed2dbc407561556f3e7be98ba0bd2a57986d6a868c482d867d19c6d40d201c"
        assert "plaintext" not in entry and "key" not in entry["value"]
        status, rotated = await admin.call("PUT", f"/api_keys/{entry['id']}", {"key": "sk-other", "allowed_models": []})
        assert status == 200 and rotated["value"]["key_hash"] == hashlib.sha256(b"sk-other").hexdigest()

    async def test_put_needs_a_key(self, admin: RunningAdmin) -> None:
        entry = await admin.create("api_keys", {"allowed_models": []})
        status, body = await admin.call("PUT", f"/api_keys/{entry['id']}", {"allowed_models": []})
        assert status == 400 and body["errors"][0]["path"] == "/key_hash"

    async def test_the_older_path_is_the_same_collection(self, admin: RunningAdmin) -> None:
        entry = await admin.create("apikeys", {"key": "sk-old", "allowed_models": []})
        assert await admin.call("GET", f"/api_keys/{entry['id']}") == (200, entry)
        assert await admin.call("GET", f"/apikeys/{entry['id']}") == (200, entry)

    @pytest.mark.parametrize("stored", ["A" * 64, "$secret://vault/prod/hash"])
    async def test_rows_of_foreign_writers_can_be_edited(self, admin: RunningAdmin, stored: str) -> None:
        row = json.dumps({"key_hash": stored, "allowed_models": []}).encode()
        await admin.etcd.put(f"{admin.prefix}/api_keys/foreign", row)
        _, entry = await admin.call("GET", "/api_keys/foreign")
        status, body = await admin.call("PUT", "/api_keys/foreign", {**entry["value"], "allowed_models": ["gpt"]})
        assert status == 200 and body["value"] == {"key_hash": stored, "allowed_models": ["gpt"]}
        status, body = await admin.call("PUT", "/api_keys/foreign", {**entry["value"], "key_hash": "B" * 64})
        assert status == 400 and body["errors"][0]["path"] == "/key_hash"

    @pytest.mark.parametrize(
        "document",
        [
            {"key": "sk-a", "key_hash": "0" * 64},
            {"key": ""},
            {"key": "two words"},
            {"key": "schlüssel"},
            {"key": 5},
            {"key": "x" * 5000},
            {"key": "$secret://vault/prod/key"},
            {"key_hash": "A" * 64},
            {"key_hash": "sha256:" + "0" * 57},
            {"key_hash": "0" * 64 + "\n"},
            {"key_hash": "***"},
            {"key_hash": None},
            {"key": "admin-key-canary-5f1c"},
            {"key_hash": hashlib.sha256(b"second-admin-key-canary-77aa").hexdigest()},
        ],
    )
    async def test_what_is_refused(self, admin: RunningAdmin, document: Mapping[str, Any]) -> None:
        status, body = await admin.call("POST", "/api_keys", {**document, "allowed_models": []})
        assert status == 400, body
        assert body["errors"][0]["path"] in ("/key", "/key_hash")


async def test_ids_with_slashes_and_escapes_are_reached(admin: RunningAdmin) -> None:
    await admin.etcd.put(f"{admin.prefix}/models/a/b c", json.dumps(DOCUMENTS["models"]).encode())
    _, listed = await admin.call("GET", "/models")
    assert [entry["id"] for entry in listed] == ["a/b c"]
    status, entry = await admin.call("GET", "/models/a%2Fb%20c")
    assert (status, entry.get("id")) == (200, "a/b c")
