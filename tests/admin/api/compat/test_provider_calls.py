"""The calls on secret providers of APISIX and API7, over a socket, on a real etcd."""

import json
from typing import Any

import pytest

from aisix_common.secret import MASK

from tests.support.admin import ADMIN_KEY, RunningAdmin

AT = "/apisix/admin/secret_providers"
TOKEN = "canary-vault-token-3e91"
VAULT = {"uri": "http://127.0.0.1:8200", "prefix": "kv/apisix", "token": TOKEN}
SHOWN = {
    "id": "main",
    "manager": "vault",
    "uri": "http://127.0.0.1:8200",
    "prefix": "kv/apisix",
    "token": MASK,
    "kv_version": "kv-v1",
}


async def test_a_provider_lives_from_put_to_delete(admin: RunningAdmin) -> None:
    headers = {"X-API-KEY": ADMIN_KEY, "Content-Type": "application/json"}
    path = f"{AT}/vault/main"
    created = await admin.send("PUT", f"{path}?gateway_group_id=default", json.dumps(VAULT).encode(), headers=headers)
    assert (created.status, created.json) == (201, {"value": SHOWN})
    stored = await admin.opened("secret_providers", "vault.main")
    assert stored["auth"] == {"method": "token", "token": TOKEN} and stored["mount"] == "kv"
    raw = await admin.etcd.get(f"/ext{admin.prefix}/secret_providers/vault.main")
    assert raw is not None and TOKEN.encode() not in raw.value

    answer = await admin.send("GET", path, headers={"Authorization": ADMIN_KEY})
    assert (answer.status, answer.json) == (200, {"value": SHOWN}), "the key may stand alone"
    assert answer.headers["ETag"] == created.headers["ETag"]
    assert await admin.call("GET", "/apisix/admin/secrets/vault/main") == (200, {"value": SHOWN}), "APISIX's own path"
    assert await admin.call("GET", AT) == (200, {"list": [SHOWN], "total": 1})
    entry = (await admin.call("GET", "/secret_providers/vault.main"))[1]
    assert entry["value"]["name"] == "main", "the same resource in both dialects"

    changed = {**SHOWN, "kv_version": "kv-v2"}
    assert await admin.call("PUT", path, changed) == (200, {"value": changed})
    assert await admin.call("PATCH", path, {"kv_version": None}) == (200, {"value": SHOWN})
    assert (await admin.opened("secret_providers", "vault.main"))["auth"]["token"] == TOKEN, "kept all along"
    status, body = await admin.call("PATCH", path, {"uri": "http://evil.example"})
    assert status == 400 and body["errors"][0]["path"] == "/token", "a masked secret is sent nowhere else"

    versions = (await admin.call("GET", "/secret_providers/vault.main/history"))[1]["versions"]
    assert [version["action"] for version in versions] == ["patched", "replaced", "created"]
    assert await admin.call("DELETE", path) == (200, {"deleted": 1, "key": "/secret_providers/vault/main"})
    for method, sent in (("GET", None), ("DELETE", None), ("PATCH", {})):
        status, body = await admin.call(method, path, sent)
        assert (status, body["error_msg"]) == (404, "Secret provider with ID vault/main not found")
    assert TOKEN not in admin.logged


async def test_one_that_others_made_is_found_by_its_name(admin: RunningAdmin) -> None:
    auth = {"method": "token", "token": "$env://AISIX_SECRET_T"}
    entry = await admin.create(
        "secret_providers", {"manager": "vault", "name": "main", "uri": "http://a.example", "auth": auth}
    )
    status, body = await admin.call("GET", f"{AT}/vault/main")
    assert (status, body["value"]["token"], body["value"]["prefix"]) == (200, "$env://AISIX_SECRET_T", "secret")
    assert (await admin.call("PUT", f"{AT}/vault/main", {**body["value"], "namespace": "x"}))[0] == 200, "given again"
    assert (await admin.call("GET", f"/secret_providers/{entry['id']}"))[1]["value"]["namespace"] == "x"
    viewed = (await admin.viewing().call("GET", f"{AT}/vault/main"))[1]["value"]
    assert viewed["token"] == MASK, "where a secret lies is not for viewers"

    # The id it would get is taken by a provider that has another name now.
    other = {"manager": "vault", "name": "was-second", "uri": "http://a.example", "auth": auth}
    member = {"kind": "secret_providers", "id": "vault.second", "value": other}
    assert (await admin.call("POST", "/apply", {"resources": [member]}))[0] == 200
    assert (await admin.call("GET", f"{AT}/vault/second"))[0] == 404
    assert (await admin.call("PUT", f"{AT}/vault/second", VAULT))[0] == 201
    assert (await admin.call("GET", "/secret_providers/vault.second"))[1]["value"]["name"] == "was-second"
    assert (await admin.call("GET", f"{AT}/vault/second"))[1]["value"]["uri"] == VAULT["uri"]


async def test_a_list_is_filtered_and_paged(admin: RunningAdmin) -> None:
    for name in ("c", "a", "b"):
        assert (await admin.call("PUT", f"{AT}/aws/{name}", {}))[0] == 201
    assert (await admin.call("PUT", f"{AT}/vault/a", VAULT))[0] == 201

    async def found(query: str) -> Any:
        body = (await admin.call("GET", f"{AT}?{query}"))[1]
        return [f"{one['manager']}/{one['id']}" for one in body["list"]], body["total"]

    assert await found("") == (["aws/a", "aws/b", "aws/c", "vault/a"], 4)
    assert await found("manager=aws&gateway_group_id=default") == (["aws/a", "aws/b", "aws/c"], 3)
    assert await found("page=2&page_size=3") == (["vault/a"], 4)
    assert await found("page=9") == ([], 4)


@pytest.mark.parametrize(
    ("method", "path", "status", "says"),
    [
        ("GET", f"{AT}?gateway_group_id=other", 400, "this gateway is one group"),
        ("GET", f"{AT}/vault/x?gateway_group_id=", 400, "gateway_group_id"),
        ("PUT", f"{AT}/vault/x?gateway_group_id=other", 400, "gateway_group_id"),
        ("GET", f"{AT}?page=0", 400, "?page"),
        ("GET", f"{AT}?page_size=1001", 400, "?page_size"),
        ("GET", f"{AT}?manager=consul", 404, "they are vault"),
        ("PUT", f"{AT}/consul/x", 404, "they are vault"),
        ("POST", f"{AT}/vault/x/test", 404, "not found"),
    ],
)
async def test_what_is_not_there_is_said(admin: RunningAdmin, method: str, path: str, status: int, says: str) -> None:
    answer = await admin.send(method, path, {} if method != "GET" else None)
    assert answer.status == status and says in answer.json["error_msg"]


async def test_everything_wrong_is_told_in_words_of_the_dialect(admin: RunningAdmin) -> None:
    sent = {"uri": "ftp://example", "prefix": "a//b", "token": "", "kv_version": "kv-v3", "new": TOKEN}
    status, body = await admin.call("PUT", f"{AT}/vault/-x", sent)
    assert status == 400 and TOKEN not in json.dumps(body)
    paths = [error["path"] for error in body["errors"]]
    assert sorted(paths) == ["/id", "/kv_version", "/new", "/prefix", "/token", "/uri"]
    status, body = await admin.call("PUT", f"{AT}/kubernetes/x", {"apiserver_addr": "https://k.example", "token": "t"})
    assert status == 400 and {error["path"] for error in body["errors"]} == {"/namespaces", "/names"}
    status, body = await admin.call("PUT", f"{AT}/vault/x", {**VAULT, "token": "$secret://vault/x/y"})
    assert status == 400 and body["errors"][0]["path"] == "/token"


async def test_only_admins_write(admin: RunningAdmin) -> None:
    viewer = admin.viewing()
    assert (await viewer.call("GET", AT))[0] == 200
    assert (await viewer.call("PUT", f"{AT}/vault/main", VAULT))[0] == 403
    assert (await viewer.call("POST", f"{AT}/vault/main/test"))[0] == 403
    assert (await admin.send("GET", AT, headers={})).status == 401
