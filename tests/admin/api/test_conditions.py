"""ETags, `If-Match`, `If-None-Match` on every call about one resource; PATCH; lists in pages; roles."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.admin import Answer, RunningAdmin

KEY: Mapping[str, Any] = {"display_name": "openai", "api_key": "sk"}


async def ask(admin: RunningAdmin, method: str, path: str, body: object = None, **conditions: str) -> Answer:
    """One request with conditional headers."""
    headers = {"Authorization": f"Bearer {admin.key}", **{k.replace("_", "-"): v for k, v in conditions.items()}}
    return await admin.send(method, path, body, headers=headers)


async def test_every_answer_about_one_resource_has_its_tag(admin: RunningAdmin) -> None:
    created = await ask(admin, "POST", "/provider_keys", dict(KEY))
    path = f"/provider_keys/{created.json['id']}"
    put = await ask(admin, "PUT", path, dict(KEY))
    patched = await ask(admin, "PATCH", path, {"strip_headers": []})
    got = await ask(admin, "GET", path)
    for answer in (created, put, patched, got):
        assert answer.headers["ETag"] == f'"{answer.json["revision"]}"'
    assert got.json["revision"] == patched.json["revision"] > put.json["revision"] > created.json["revision"]
    head = await ask(admin, "HEAD", path)
    assert head.headers["ETag"] == got.headers["ETag"]
    known = await ask(admin, "GET", path, If_None_Match=got.headers["ETag"])
    assert (known.status, known.body, known.headers["ETag"]) == (304, b"", got.headers["ETag"])
    assert (await ask(admin, "GET", path, If_None_Match='"1"')).status == 200


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_a_condition_that_does_not_hold_changes_nothing(admin: RunningAdmin, method: str) -> None:
    entry = await admin.create("provider_keys", KEY)
    path, tag = f"/provider_keys/{entry['id']}", f'"{entry["revision"]}"'
    body = None if method == "DELETE" else {**KEY, "provider": "openai"}
    for wrong in ({"If_Match": '"1"'}, {"If_Match": f"W/{tag}"}, {"If_None_Match": "*"}, {"If_None_Match": tag}):
        answer = await ask(admin, method, path, body, **wrong)
        assert answer.status == 412, wrong
        assert answer.headers["ETag"] == tag and "read it" in answer.json["error_msg"]
    assert (await ask(admin, method, path, body, If_Match="42")).status == 400, "not a tag"
    assert (await admin.call("GET", path))[1] == entry
    assert (await ask(admin, method, path, body, If_Match=f'"7", {tag}')).status == 200
    gone = await ask(admin, method, "/provider_keys/none", body, If_Match="*")
    assert gone.status == 412


async def test_patch_is_a_merge_patch(admin: RunningAdmin) -> None:
    request = {"default_headers": {"x-a": "1", "x-b": "2"}}
    entry = await admin.create("provider_keys", {**KEY, "provider": "openai", "request": request})
    path = f"/provider_keys/{entry['id']}"
    patch = {"provider": None, "request": {"default_headers": {"x-b": None, "x-c": "3"}}, "secret": "sk-new"}
    answer = await ask(admin, "PATCH", path, patch, Content_Type="application/merge-patch+json")
    assert answer.status == 400, "the secret goes elsewhere with another provider"
    patch["provider"] = "openai"
    answer = await ask(admin, "PATCH", path, patch, Content_Type="application/merge-patch+json")
    assert answer.status == 200, answer.json
    stored = await admin.opened("provider_keys", entry["id"])
    assert stored["api_key"] == "sk-new" and stored["request"]["default_headers"] == {"x-a": "1", "x-c": "3"}
    assert (await ask(admin, "PATCH", path, {"display_name": None})).status == 400


async def test_a_caller_key_is_patched(admin: RunningAdmin) -> None:
    entry = await admin.create("api_keys", {"allowed_models": ["a"], "team_id": "t"})
    status, body = await admin.call("PATCH", f"/api_keys/{entry['id']}", {"disabled": True})
    assert status == 200 and body["value"] == {**entry["value"], "disabled": True}
    status, body = await admin.call("PATCH", f"/api_keys/{entry['id']}", {"key": "sk-mine"})
    assert status == 200 and body["value"]["key_hash"] != entry["value"]["key_hash"]


async def test_pages_of_a_list(admin: RunningAdmin) -> None:
    names = [f"key-{n:02}" for n in range(25)]
    for name in names:
        await admin.create("provider_keys", {**KEY, "display_name": name})
    _, everything = await admin.call("GET", "/provider_keys")
    for query, expected in (
        ("sort=id", [entry["value"]["display_name"] for entry in everything]),
        ("sort=name", names),
        ("sort=-name", names[::-1]),
        ("name=key-1*", None),
    ):
        found: list[str] = []
        cursor = ""
        while True:
            status, page = await admin.call("GET", f"/provider_keys?limit=4&{query}{cursor}")
            assert status == 200 and len(page["items"]) <= 4
            found += [entry["value"]["display_name"] for entry in page["items"]]
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
        assert found == expected or sorted(found) == names[10:20]
    status, page = await admin.call("GET", "/provider_keys?name=key-07")
    assert [entry["value"]["display_name"] for entry in page["items"]] == ["key-07"]
    for wrong in (
        "limit=0",
        "limit=x",
        "limit=1001",
        "sort=secret",
        "cursor=nonsense",
        "name=**",
        "sort=name&cursor=W10",
    ):
        status, body = await admin.call("GET", f"/provider_keys?{wrong}")
        assert status == 400 and body["errors"][0]["path"].startswith("?"), wrong


async def test_a_list_of_caller_keys_never_sorts_by_hash(admin: RunningAdmin) -> None:
    for name in ("b", "a", None):
        await admin.create("api_keys", {"allowed_models": [], **({"display_name": name} if name else {})})
    _, page = await admin.call("GET", "/api_keys?sort=name&limit=2")
    assert [entry["value"].get("display_name") for entry in page["items"]] == [None, "a"]
    _, rest = await admin.call("GET", f"/api_keys?sort=name&limit=2&cursor={page['next_cursor']}")
    assert [entry["value"].get("display_name") for entry in rest["items"]] == ["b"]


async def test_a_viewer_reads_and_nothing_else(admin: RunningAdmin) -> None:
    entry = await admin.create("provider_keys", KEY)
    caller = await admin.create("api_keys", {"allowed_models": []})
    await admin.call("POST", f"/api_keys/{caller['id']}/rotate", {"overlap_seconds": 60})
    viewer = admin.viewing()
    assert await viewer.call("GET", f"/provider_keys/{entry['id']}") == (200, entry)
    for path in (f"/api_keys/{caller['id']}", "/api_keys", f"/api_keys/{caller['id']}/history", "/audit", "/instances"):
        answer = await viewer.send("GET", path)
        assert answer.status == 200, path
        assert caller["value"]["key_hash"].encode() not in answer.body
    _, shown = await viewer.call("GET", f"/api_keys/{caller['id']}")
    assert shown["value"]["key_hash"] == "***" and shown["value"]["previous_keys"][0]["hash"] == "***"
    before = await admin.etcd.range(admin.prefix + "/")
    for method, path, body in (
        ("POST", "/provider_keys", {**KEY, "display_name": "x"}),
        ("PUT", f"/provider_keys/{entry['id']}", dict(KEY)),
        ("PATCH", f"/provider_keys/{entry['id']}", {"provider": "x"}),
        ("DELETE", f"/provider_keys/{entry['id']}", None),
        ("POST", f"/api_keys/{caller['id']}/rotate", None),
        ("POST", f"/provider_keys/{entry['id']}/rollback", {"version": 1}),
        ("POST", f"/provider_keys/{entry['id']}/restore", None),
        ("POST", "/apply", {"resources": []}),
        ("POST", "/validate", {"kind": "provider_keys", "value": dict(KEY)}),
        ("GET", "/export", None),
        ("POST", "/aisix/admin/apikeys", {"key": "sk-x", "allowed_models": []}),
    ):
        status, answer_body = await viewer.call(method, path, body)
        assert status == 403 and "admin" in answer_body["error_msg"], path
    after = await admin.etcd.range(admin.prefix + "/")
    assert after.rows == before.rows
