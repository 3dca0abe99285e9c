"""The calls of the older dialect, over a socket, on a real etcd."""

import asyncio
import hashlib
import json
from typing import Any

import pytest

from aisix_admin.api.compat.models import key_id
from aisix_common.secret import MASK

from tests.support.admin import ADMIN_KEY, RunningAdmin

KEYS = "/aisix/admin/apikeys"
MODELS = "/aisix/admin/models"
SECRET = "sk-canary-provider-credential-7c1e"
CALLER = "sk-canary-caller-key-20b9"
MODEL = {"name": "gpt", "model": "openai/gpt-4o", "provider_config": {"api_key": SECRET}, "rate_limit": {"rpm": 5}}
SHOWN = {**MODEL, "provider_config": {"api_key": MASK}}

CURL = b"""{
"key": "my-secret-key",
"allowed_models": ["openai-gpt4-mini"]
}"""
"""As the customer's page on authentication prints it."""


async def stored(admin: RunningAdmin, kind: str, id: str) -> Any:
    row = await admin.etcd.get(f"{admin.prefix}/{kind}/{id}")
    return None if row is None else json.loads(row.value)


def id_of(item: Any) -> str:
    return str(item["key"].rpartition("/")[2])


async def test_the_printed_curl_line_works(admin: RunningAdmin) -> None:
    headers = {"Authorization": f"Bearer {ADMIN_KEY}", "Content-Type": "application/json"}
    answer = await admin.send("POST", KEYS, CURL, headers=headers)
    assert answer.status == 201
    assert set(answer.json) == {"key", "value"} and answer.json["key"].startswith("/apikeys/")
    assert answer.json["value"] == {"key": MASK, "allowed_models": ["openai-gpt4-mini"]}
    id = id_of(answer.json)
    assert await stored(admin, "api_keys", id) == {
        "key_hash": hashlib.sha256(b"my-secret-key").hexdigest(),
        "allowed_models": ["openai-gpt4-mini"],
    }
    assert (await admin.call("GET", f"/api_keys/{id}"))[0] == 200, "the same resource in both dialects"

    again = await admin.send("POST", KEYS, CURL, headers=headers)
    assert (again.status, again.json["error_msg"]) == (400, "API key already exists")


async def test_a_caller_key_lives_from_post_to_delete(admin: RunningAdmin) -> None:
    status, created = await admin.call("POST", KEYS, {"key": CALLER, "allowed_models": []})
    assert status == 201
    path, id = f"{KEYS}/{id_of(created)}", id_of(created)
    row = await admin.etcd.get(f"{admin.prefix}/api_keys/{id}")
    assert row is not None
    item = {**created, "created_index": row.create_revision, "modified_index": row.mod_revision}
    assert await admin.call("GET", path) == (200, item)
    assert await admin.call("GET", KEYS) == (200, {"total": 1, "list": [item]})

    status, updated = await admin.call("PUT", path, {"key": MASK, "allowed_models": ["a"], "rate_limit": {"tpm": 3}})
    value = {"key": MASK, "allowed_models": ["a"], "rate_limit": {"tpm": 3}}
    assert (status, updated) == (200, {"key": f"/apikeys/{id}", "value": value})
    _, item = await admin.call("GET", path)
    assert item["created_index"] == row.create_revision and item["modified_index"] > row.mod_revision
    assert (await stored(admin, "api_keys", id))["key_hash"] == hashlib.sha256(CALLER.encode()).hexdigest()

    assert await admin.call("DELETE", path) == (200, {"deleted": 1, "key": f"/apikeys/{id}"})
    for method in ("GET", "DELETE"):
        status, body = await admin.call(method, path)
        assert (status, body["error_msg"]) == (404, f"API key with ID {id} not found")
    assert await admin.call("GET", KEYS) == (200, {"total": 0, "list": []})


async def test_a_put_creates_what_is_not_there(admin: RunningAdmin) -> None:
    document = {"key": CALLER, "allowed_models": ["a"]}
    status, item = await admin.call("PUT", f"{KEYS}/mine", document)
    assert (status, item["key"]) == (201, "/apikeys/mine")
    assert (await admin.call("PUT", f"{KEYS}/mine", document))[0] == 200
    assert (await admin.call("PUT", f"{MODELS}/mine", MODEL))[0] == 201
    assert (await admin.call("PUT", f"{MODELS}/mine", MODEL))[0] == 200
    status, body = await admin.call("PUT", f"{KEYS}/other", document)
    assert (status, body["error_msg"]) == (400, "API key already exists")
    status, body = await admin.call("PUT", f"{MODELS}/other", MODEL)
    assert (status, body["error_msg"]) == (400, "Model name already exists")
    for id in ("a%2Fb", "a%0Ab", "x" * 129):
        status, body = await admin.call("PUT", f"{KEYS}/{id}", document)
        assert status == 400 and "id" in body["error_msg"], id


async def test_a_model_and_its_provider_key_are_one_transaction(admin: RunningAdmin) -> None:
    status, created = await admin.call("POST", MODELS, MODEL)
    assert (status, created["value"]) == (201, SHOWN)
    id = id_of(created)
    rows = [
        await admin.etcd.get(f"{admin.prefix}/{kind}/{which}")
        for kind, which in (("models", id), ("provider_keys", key_id(id)))
    ]
    model, key = (row for row in rows if row is not None)
    assert model.mod_revision == key.mod_revision
    assert json.loads(model.value)["provider_key_id"] == key_id(id)
    assert (await admin.opened("provider_keys", key_id(id)))["api_key"] == SECRET
    item = {**created, "created_index": model.create_revision, "modified_index": model.mod_revision}
    assert await admin.call("GET", f"{MODELS}/{id}") == (200, item)
    assert await admin.call("GET", MODELS) == (200, {"total": 1, "list": [item]})

    status, updated = await admin.call("PUT", f"{MODELS}/{id}", {**SHOWN, "name": "renamed", "timeout": 10})
    assert (status, updated["value"]) == (200, {**SHOWN, "name": "renamed", "timeout": 10})
    key_document = await admin.opened("provider_keys", key_id(id))
    assert (key_document["api_key"], key_document["display_name"]) == (SECRET, "model/renamed")
    moved = {**SHOWN, "provider_config": {"api_key": MASK, "api_base": "https://evil.example.com"}}
    status, body = await admin.call("PUT", f"{MODELS}/{id}", moved)
    assert (status, [each["path"] for each in body["errors"]]) == (400, ["/provider_config/api_key"])

    assert await admin.call("DELETE", f"{MODELS}/{id}") == (200, {"deleted": 1, "key": f"/models/{id}"})
    assert await stored(admin, "models", id) is None and await stored(admin, "provider_keys", key_id(id)) is None
    for method in ("GET", "DELETE"):
        status, body = await admin.call(method, f"{MODELS}/{id}")
        assert (status, body["error_msg"]) == (404, f"Model with ID {id} not found")


async def test_of_many_creators_of_one_name_one_wins(admin: RunningAdmin) -> None:
    answers = await asyncio.gather(*(admin.call("POST", MODELS, MODEL) for _ in range(10)))
    assert sorted(status for status, _ in answers) == [201, *[400] * 9]
    assert {body["error_msg"] for status, body in answers if status == 400} == {"Model name already exists"}
    assert (await admin.call("GET", MODELS))[1]["total"] == 1
    assert len((await admin.call("GET", "/provider_keys"))[1]) == 1, "the losers left nothing behind"


async def test_fields_of_the_other_dialect_survive(admin: RunningAdmin) -> None:
    entry = await admin.create("api_keys", {"key": CALLER, "allowed_models": ["a"], "team_id": "t", "disabled": True})
    status, body = await admin.call("PUT", f"{KEYS}/{entry['id']}", {"key": MASK, "allowed_models": ["b"]})
    assert (status, body["value"]) == (200, {"key": MASK, "allowed_models": ["b"]})
    after = await stored(admin, "api_keys", entry["id"])
    assert after == {**entry["value"], "allowed_models": ["b"]}

    await admin.call("PUT", f"{MODELS}/m", MODEL)
    _, one = await admin.call("GET", "/models/m")
    await admin.call("PUT", "/models/m", {**one["value"], "retries": 2})
    before = await stored(admin, "models", "m")
    _, item = await admin.call("GET", f"{MODELS}/m")
    assert (await admin.call("PUT", f"{MODELS}/m", item["value"]))[0] == 200
    assert await stored(admin, "models", "m") == before, "GET, then PUT, changes nothing"


async def test_models_that_the_dialect_has_no_words_for(admin: RunningAdmin) -> None:
    key = await admin.create("provider_keys", {"display_name": "shared", "api_key": "k", "api_base": "http://a.b/v1"})
    direct = {"display_name": "one", "provider": "cohere", "model_name": "x/y", "provider_key_id": key["id"]}
    one = await admin.create("models", direct)
    group = {"display_name": "group", "routing": {"strategy": "failover", "targets": [{"model": "one"}]}}
    many = await admin.create("models", group)
    status, body = await admin.call("GET", MODELS)
    assert (status, body["total"]) == (200, 1)
    assert body["list"][0]["value"] == {
        "name": "one",
        "model": "cohere/x/y",
        "provider_config": {"api_key": MASK, "api_base": "http://a.b/v1"},
    }
    for method in ("GET", "DELETE"):
        status, body = await admin.call(method, f"{MODELS}/{many['id']}")
        assert status == 404 and "/admin/v1" in body["error_msg"]
    for id in (one["id"], many["id"]):
        status, body = await admin.call("PUT", f"{MODELS}/{id}", MODEL)
        assert status == 400 and "/admin/v1" in body["error_msg"]
    status, body = await admin.call("DELETE", f"{MODELS}/{one['id']}")
    assert status == 409 and many["id"] in body["error_msg"], "in use, as in the other dialect"
    assert (await admin.call("DELETE", f"{MODELS}/{one['id']}?force=true"))[0] == 200
    assert await stored(admin, "provider_keys", key["id"]) is not None


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        (KEYS, b"{", "Invalid JSON: line 1 column 2: "),
        (KEYS, [], 'JSON schema validation error: property "/" validation failed: '),
        (KEYS, {"key": 1, "allowed_models": []}, 'JSON schema validation error: property "/key" validation failed: '),
        (KEYS, {"key": ADMIN_KEY, "allowed_models": []}, 'JSON schema validation error: property "/key" validation'),
        (MODELS, {**MODEL, "model": "x"}, 'JSON schema validation error: property "/model" validation failed: '),
        (MODELS, SHOWN, 'JSON schema validation error: property "/provider_config/api_key" validation failed: '),
    ],
)
async def test_refusals(admin: RunningAdmin, path: str, body: Any, message: str) -> None:
    headers = {"Authorization": f"Bearer {ADMIN_KEY}", "Content-Type": "application/json"}
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    for method, where in (("POST", path), ("PUT", f"{path}/x")):
        answer = await admin.send(method, where, data, headers=headers)
        assert answer.status == 400
        assert answer.json["error_msg"].startswith(message), answer.json
        assert answer.json["errors"]
    assert (await admin.call("GET", path))[1]["total"] == 0


async def test_conditions_are_those_of_the_resource(admin: RunningAdmin) -> None:
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    path = f"{MODELS}/m"
    absent = {**headers, "If-None-Match": "*"}
    created = await admin.send("PUT", path, MODEL, headers=absent)
    assert created.status == 201
    assert (await admin.send("PUT", path, MODEL, headers=absent)).status == 412
    tag = created.headers["ETag"]
    assert (await admin.send("GET", path)).headers["ETag"] == tag
    assert (await admin.send("GET", path, headers={**headers, "If-None-Match": tag})).status == 304
    newer = await admin.send("PUT", path, {**MODEL, "timeout": 1}, headers={**headers, "If-Match": tag})
    assert newer.status == 200 and newer.headers["ETag"] != tag
    for method, body in (("PUT", MODEL), ("DELETE", None)):
        assert (await admin.send(method, path, body, headers={**headers, "If-Match": tag})).status == 412


async def test_who_may_not_write_reads(admin: RunningAdmin) -> None:
    await admin.call("PUT", f"{KEYS}/k", {"key": CALLER, "allowed_models": []})
    viewer = admin.viewing()
    assert (await viewer.call("GET", f"{KEYS}/k"))[0] == 200
    for method, path in (("POST", KEYS), ("PUT", f"{KEYS}/k"), ("DELETE", f"{KEYS}/k"), ("POST", MODELS)):
        assert (await viewer.call(method, path, {}))[0] == 403
    for method, path in (("GET", KEYS), ("POST", MODELS)):
        assert (await admin.send(method, path, headers={})).status == 401


async def test_rows_that_are_no_documents(admin: RunningAdmin) -> None:
    await admin.etcd.put(f"{admin.prefix}/models/bad", b'{"display_name": 1}')
    await admin.etcd.put(f"{admin.prefix}/api_keys/bad", b"[]")
    for path in (KEYS, MODELS):
        assert await admin.call("GET", path) == (200, {"total": 0, "list": []})
        assert (await admin.call("GET", f"{path}/bad"))[0] == 500
    assert "row left out of a list" in admin.logged
    assert (await admin.call("PUT", f"{MODELS}/bad", MODEL))[0] == 200
    assert (await admin.call("DELETE", f"{KEYS}/bad"))[0] == 200


async def test_no_answer_log_or_metric_shows_a_secret(admin: RunningAdmin) -> None:
    seen: list[str] = []

    async def note(method: str, path: str, body: object = None) -> None:
        answer = await admin.send(method, path, body)
        seen.append(answer.body.decode() + repr(answer.headers))

    key = {"key": CALLER, "allowed_models": []}
    for path, document in ((f"{KEYS}/k", key), (f"{MODELS}/m", MODEL)):
        collection = path.rpartition("/")[0]
        await note("PUT", path, document)
        await note("PUT", path, {**document, "bogus": SECRET, "rate_limit": CALLER})
        await note("POST", collection, document)  # it exists
        await note("POST", collection, f'{{"key": "{CALLER}", "api_key": {SECRET}'.encode())
        await note("GET", path)
        await note("GET", collection)
    await note("PUT", f"{MODELS}/m", {**MODEL, "model": SECRET, "provider_config": {"api_key": [SECRET]}})
    await note("PUT", f"{KEYS}/k", {"key": f"two words {CALLER}", "allowed_models": []})
    await note("GET", "/audit")
    await note("GET", "/models/m/history")
    await note("GET", f"/provider_keys/{key_id('m')}/history")
    await note("DELETE", f"{MODELS}/m")
    everything = "\n".join([*seen, admin.logged, admin.scraped])
    for canary in (SECRET, CALLER, "admin-key-canary", hashlib.sha256(CALLER.encode()).hexdigest()):
        assert canary not in everything
