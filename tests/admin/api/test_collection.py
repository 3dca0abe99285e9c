"""The five calls on every kind, over a socket, on a real etcd."""

import asyncio
import hashlib
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import pytest

from aisix_common.resources import KINDS
from aisix_common.secret import MASK

from tests.support.admin import RunningAdmin
from tests.support.documents import CANARIES, FIELD, HEADER, SAMPLES, SECRET, SET, needed

DOCUMENTS: Mapping[str, Mapping[str, Any]] = {kind: sample.document for kind, sample in SAMPLES.items()}
ANY_KIND = pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
NAMED = pytest.mark.parametrize("kind", [sample.kind for sample in SET if sample.name is not None])


@pytest.fixture
async def ready(admin: RunningAdmin) -> RunningAdmin:
    """An admin that has what the models and guardrails of the samples refer to."""
    await prepare(admin, "guardrail_attachments")
    for kind in ("models", "api_keys"):
        await admin.call("DELETE", f"/{kind}/{kind}-1?force=true&purge=true")
    return admin


async def prepare(admin: RunningAdmin, kind: str) -> None:
    """Write what the sample of `kind` refers to."""
    if members := needed(kind):
        status, body = await admin.call("POST", "/apply", {"resources": members})
        assert status == 200, body


@ANY_KIND
async def test_a_resource_lives_from_post_to_delete(admin: RunningAdmin, kind: str) -> None:
    await prepare(admin, kind)
    status, created = await admin.call("POST", f"/{kind}", dict(DOCUMENTS[kind]))
    assert status == 200, created
    assert set(created) == {"id", "value", "revision"}
    id, changed = created["id"], SAMPLES[kind].changed
    assert len(id) == 36 and id[14] == "4", "the server chooses a UUID v4"
    row = await admin.etcd.get(f"{admin.prefix}/{kind}/{id}")
    assert row is not None and row.mod_revision == created["revision"]

    assert await admin.call("GET", f"/{kind}/{id}") == (200, created)
    assert await admin.call("GET", f"/{kind}") == (200, [created])

    status, replaced = await admin.call("PUT", f"/{kind}/{id}", {**created["value"], **changed})
    assert status == 200, replaced
    assert replaced["id"] == id and replaced["revision"] > created["revision"]
    if kind != "mcp_auth_settings":
        assert replaced["value"] == {**created["value"], **changed}
    assert await admin.call("GET", f"/{kind}/{id}") == (200, replaced)

    assert await admin.call("DELETE", f"/{kind}/{id}") == (200, {"deleted": True, "id": id})
    assert await admin.etcd.get(f"{admin.prefix}/{kind}/{id}") is None
    for method in ("GET", "DELETE"):
        status, body = await admin.call(method, f"/{kind}/{id}")
        assert (status, body["error_msg"]) == (404, "resource not found")
    for method in ("PUT", "PATCH"):
        status, body = await admin.call(method, f"/{kind}/{id}", dict(DOCUMENTS[kind]))
        assert (status, body["error_msg"]) == (404, "resource not found"), "neither ever creates"
    assert await admin.call("GET", f"/{kind}") == (200, [])


@ANY_KIND
async def test_get_edit_put_loses_nothing(admin: RunningAdmin, kind: str) -> None:
    """Also what nobody knows here, at every depth."""
    await prepare(admin, kind)
    entry = await admin.create(kind, DOCUMENTS[kind])
    path, changed = f"/{kind}/{entry['id']}", SAMPLES[kind].changed
    stored = await admin.etcd.get(admin.prefix + path)
    assert stored is not None
    before = {**json.loads(stored.value), "future_knob": {"deep": [1]}}
    await admin.etcd.put(admin.prefix + path, json.dumps(before).encode())
    _, shown = await admin.call("GET", path)
    assert "future_knob" not in shown["value"] or kind in OPEN
    status, body = await admin.call("PUT", path, {**shown["value"], **changed})
    after = await admin.etcd.get(admin.prefix + path)
    assert status == 200 and after is not None, body
    assert json.loads(after.value) == {**before, **changed}
    status, body = await admin.call("PATCH", path, {name: before.get(name) for name in changed})
    back = await admin.etcd.get(admin.prefix + path)
    assert status == 200 and back is not None, body
    assert json.loads(back.value) == before


OPEN = ("cache_policies", "guardrail_attachments")
"""Kinds whose documents may hold anything."""


async def test_no_answer_log_or_metric_shows_a_secret(admin: RunningAdmin) -> None:
    seen: list[str] = []

    async def note(method: str, path: str, body: object = None) -> Any:
        answer = await admin.send(method, path, body)
        seen.append(answer.body.decode() + repr(answer.headers))
        return answer.json

    await note("POST", "/apply", {"resources": [sample.member for sample in SET]})
    for kind, sample in SAMPLES.items():
        path = f"/{kind}/{kind}-1"
        shown = (await note("GET", path))["value"]
        await note("GET", f"/{kind}")
        await note("GET", f"/{kind}?limit=1&sort=name")
        await note("PUT", path, {**shown, **sample.changed})
        await note("PATCH", path, dict(sample.changed))
        await note("POST", f"/{kind}", dict(sample.document))  # in most cases 409
        await note("POST", "/validate", {"kind": kind, "value": dict(sample.document)})
        await note("POST", f"/{kind}", {**sample.document, "bogus": SECRET, sample.name or "scope": {SECRET: FIELD}})
        await note("GET", f"{path}/history")
        await note("GET", f"{path}/history/diff?from=1&to=2")
        await note("POST", f"{path}/rollback", {"version": 1})
        await note("GET", f"/audit?kind={kind}")
    await note("GET", "/export")
    document = dict(DOCUMENTS["provider_keys"])
    entry = await note("GET", "/provider_keys/provider_keys-1")
    assert entry["value"]["api_key"] == MASK
    assert entry["value"]["request"] == {"default_headers": {"x-team": MASK}, "default_body_fields": {"user": MASK}}
    path = f"/provider_keys/{entry['id']}"
    await note("POST", "/provider_keys", {**document, "display_name": 1, "api_key": {SECRET: FIELD}, "tls": HEADER})
    await note("PUT", path, {**document, "adapter": SECRET, "response": {"stream_done_marker": FIELD}})
    await note("POST", "/provider_keys", f'{{"api_key": "{SECRET}", "x": {HEADER}'.encode())
    await note("POST", "/api_keys", {"key": SECRET, "allowed_models": HEADER})
    await admin.etcd.put(f"{admin.prefix}/provider_keys/bad", json.dumps({"api_key": [SECRET, FIELD]}).encode())
    await note("GET", "/provider_keys/bad")
    await note("GET", "/provider_keys")
    await note("POST", "/playground/chat/completions", {"model": SECRET})
    for sample in reversed(SET):
        await note("DELETE", f"/{sample.kind}/{sample.kind}-1")
    for sample in SET:
        await note("POST", f"/{sample.kind}/{sample.kind}-1/restore", {"set": {"bogus": SECRET}})
    state = await admin.etcd.range(f"/run{admin.prefix}/")
    assert len(state.rows) > 40, "audit and history are among what is looked at"
    rows = "\n".join(row.key + row.value.decode() for row in state.rows)
    everything = "\n".join([*seen, admin.logged, admin.scraped, rows])
    for canary in (*CANARIES, "key-canary"):
        assert canary not in everything, canary


async def test_masks_keep_what_is_stored(admin: RunningAdmin) -> None:
    entry = await admin.create("provider_keys", DOCUMENTS["provider_keys"])
    path = f"/provider_keys/{entry['id']}"
    value = {**entry["value"], "display_name": "renamed"}
    value["request"] = {**value["request"], "default_headers": {"x-team": MASK, "x-new": "fresh"}}
    status, _ = await admin.call("PUT", path, value)
    assert status == 200
    stored = await admin.opened("provider_keys", entry["id"])
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


@NAMED
async def test_a_name_is_taken_once(admin: RunningAdmin, kind: str) -> None:
    await prepare(admin, kind)
    document, name_field = dict(DOCUMENTS[kind]), SAMPLES[kind].name
    assert name_field is not None
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


async def test_of_settings_there_is_one(admin: RunningAdmin) -> None:
    await admin.create("mcp_auth_settings", {"resource_url": "https://a.example.com"})
    status, _ = await admin.call("POST", "/mcp_auth_settings", {"resource_url": "https://b.example.com"})
    assert status == 409


async def test_two_puts_at_once_leave_one_of_the_two(ready: RunningAdmin) -> None:
    admin = ready
    entry = await admin.create("models", DOCUMENTS["models"])
    wanted = [{**entry["value"], "model_name": f"model-{n}"} for n in range(2)]
    answers = await asyncio.gather(*(admin.call("PUT", f"/models/{entry['id']}", value) for value in wanted))
    assert [status for status, _ in answers] == [200, 200]
    _, now = await admin.call("GET", f"/models/{entry['id']}")
    assert now["value"] in wanted
    assert now["revision"] == max(body["revision"] for _, body in answers)


async def test_rows_that_are_no_documents(ready: RunningAdmin) -> None:
    admin = ready
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
    assert status == 200 and "canary-unknown" not in json.dumps(body), (
        "what it refers to need not exist: it did not before"
    )
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


async def test_ids_of_others_are_whatever_a_key_may_hold(admin: RunningAdmin) -> None:
    for id in ("a/history", "{x}", "a b", "\u00e9?#%2F", "a\nb"):
        row = json.dumps({"display_name": id, "api_key": "k"}).encode()
        await admin.etcd.put(f"{admin.prefix}/provider_keys/{id}", row)
        status, body = await admin.call("GET", f"/provider_keys/{quote(id, safe='')}")
        assert status == 200 and body["id"] == id
