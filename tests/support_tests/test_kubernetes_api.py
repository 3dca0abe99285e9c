"""The Kubernetes API server of the tests does what the real one does.

The tests above the line are a contract: with AISIX_CONTRACT_API (its URL), AISIX_CONTRACT_TOKEN (an admin's) and
AISIX_CONTRACT_CA (a PEM file) set they run against a real API server instead, in its namespace `default`.
"""

import asyncio
import base64
import json
import os
import ssl
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.support.kubernetes_accounts import Account
from tests.support.kubernetes_api import KubernetesApi, kubernetes_api
from tests.support.openbao import BaoRefused, OpenBao

SECRETS = "/api/v1/namespaces/default/secrets"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"


@dataclass(frozen=True)
class Cluster:
    """A server, and a session that speaks to it as `token` says."""

    session: aiohttp.ClientSession
    url: str
    token: str

    async def call(
        self, method: str, path: str, body: object = None, *, token: str = "", patch: bool = False
    ) -> tuple[int, dict[str, Any]]:
        """The status and the document of the answer."""
        headers = {"Authorization": f"Bearer {token or self.token}"}
        headers["Content-Type"] = "application/merge-patch+json" if patch else "application/json"
        data = None if body is None else json.dumps(body)
        async with self.session.request(method, self.url + path, data=data, headers=headers) as answer:
            return answer.status, await answer.json()

    async def watch(self, path: str, **query: str) -> list[tuple[str, str]]:
        """What a watch told until it ended: each event's type, and the name of its object."""
        headers = {"Authorization": f"Bearer {self.token}"}
        params = {"watch": "1", **query}
        async with self.session.get(self.url + path, params=params, headers=headers) as answer:
            assert (answer.status, answer.content_type) == (200, "application/json")
            lines = [json.loads(line) async for line in answer.content]
        return [(line["type"], line["object"]["metadata"].get("name", "")) for line in lines]


@pytest_asyncio.fixture
async def api(tmp_path: Path) -> AsyncIterator[KubernetesApi]:
    async with kubernetes_api(tmp_path) as running:
        yield running


@pytest_asyncio.fixture
async def cluster(api: KubernetesApi) -> AsyncIterator[Cluster]:
    real = os.environ.get("AISIX_CONTRACT_API")
    ca = Path(os.environ["AISIX_CONTRACT_CA"]).read_text() if real else api.ca
    token = os.environ["AISIX_CONTRACT_TOKEN"] if real else api.accounts.admin_token
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=ca))
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Cluster(session, real or api.url, token)


@pytest.fixture
def name() -> str:
    return f"kit-{uuid.uuid4().hex[:8]}"


def secret(name: str, **fields: object) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, **fields}


async def test_a_secret_as_it_is_kept(cluster: Cluster, name: str) -> None:
    status, made = await cluster.call("POST", SECRETS, secret(name, stringData={"key": "sk-1"}))
    assert status == 201
    assert (made["type"], made["data"], "stringData" in made) == ("Opaque", {"key": "c2stMQ=="}, False)
    assert {"uid", "creationTimestamp", "resourceVersion", "managedFields"} < set(made["metadata"])
    assert await cluster.call("GET", f"{SECRETS}/{name}") == (200, made)
    status, again = await cluster.call("POST", SECRETS, secret(name))
    assert (status, again["reason"], again["message"]) == (409, "AlreadyExists", f'secrets "{name}" already exists')
    status, listed = await cluster.call("GET", f"{SECRETS}?fieldSelector=metadata.name={name}")
    assert (listed["kind"], len(listed["items"]), "kind" in listed["items"][0]) == ("SecretList", 1, False)
    status, gone = await cluster.call("DELETE", f"{SECRETS}/{name}")
    assert (status, gone["status"], gone["details"]["uid"]) == (200, "Success", made["metadata"]["uid"])
    status, missing = await cluster.call("GET", f"{SECRETS}/{name}")
    assert (status, missing["reason"], missing["details"]) == (404, "NotFound", {"name": name, "kind": "secrets"})


@pytest.mark.parametrize(
    ("document", "status", "reason"),
    [
        ({"metadata": {"name": "Bad_Name"}}, 422, "Invalid"),
        ({"data": {"a b": "eA=="}}, 422, "Invalid"),
        ({"data": {"a": "!"}}, 400, "BadRequest"),
        ({"metadata": {"name": "x", "namespace": "elsewhere"}}, 400, "BadRequest"),
    ],
)
async def test_a_secret_that_cannot_be(
    cluster: Cluster, name: str, document: dict[str, Any], status: int, reason: str
) -> None:
    got, told = await cluster.call("POST", SECRETS, {**secret(name), **document})
    assert (got, told["reason"]) == (status, reason)


async def test_writes_from_a_stale_read_are_conflicts(cluster: Cluster, name: str) -> None:
    _, first = await cluster.call("POST", SECRETS, secret(name))
    path = f"{SECRETS}/{name}"
    status, second = await cluster.call("PUT", path, {**first, "stringData": {"key": "two"}})
    assert status == 200
    assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
    status, stale = await cluster.call("PUT", path, {**first, "stringData": {"key": "three"}})
    assert (status, stale["reason"]) == (409, "Conflict")
    modified = "the object has been modified; please apply your changes to the latest version and try again"
    assert stale["message"] == f'Operation cannot be fulfilled on secrets "{name}": {modified}'
    old = {"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}, "data": {"key": "eA=="}}
    assert (await cluster.call("PATCH", path, old, patch=True))[0] == 409
    wrong = {"preconditions": {"resourceVersion": first["metadata"]["resourceVersion"]}}
    assert (await cluster.call("DELETE", path, wrong))[0] == 409

    status, same = await cluster.call("PUT", path, secret(name, data=second["data"]))
    assert (status, same["metadata"]["resourceVersion"]) == (200, second["metadata"]["resourceVersion"])
    status, changed = await cluster.call("PATCH", path, {"data": {"key": None, "other": "eA=="}}, patch=True)
    assert (status, changed["data"]) == (200, {"other": "eA=="})
    assert (await cluster.call("DELETE", path))[0] == 200
    assert (await cluster.call("PUT", path, secret(name)))[0] == 404


async def test_one_of_two_candidates_gets_a_lease(cluster: Cluster, name: str) -> None:
    def lease(holder: str, metadata: dict[str, Any]) -> dict[str, Any]:
        spec = {"holderIdentity": holder, "leaseDurationSeconds": 15}
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}

    made = await asyncio.gather(*(cluster.call("POST", LEASES, lease(who, {"name": name})) for who in "ab"))
    assert sorted(status for status, _ in made) == [201, 409]
    _, held = await cluster.call("GET", f"{LEASES}/{name}")
    path = f"{LEASES}/{name}"
    taken = await asyncio.gather(*(cluster.call("PUT", path, lease(who, held["metadata"])) for who in "cd"))
    assert sorted(status for status, _ in taken) == [200, 409]
    assert (await cluster.call("PUT", path, lease("e", {"name": name})))[0] == 422
    assert (await cluster.call("DELETE", path))[0] == 200
    assert (await cluster.call("PUT", path, lease("f", {"name": name})))[0] == 201
    await cluster.call("DELETE", path)


async def test_a_watch_tells_what_happens(cluster: Cluster, name: str) -> None:
    _, listed = await cluster.call("GET", SECRETS)
    version = listed["metadata"]["resourceVersion"]
    about = {"fieldSelector": f"metadata.name={name}", "timeoutSeconds": "1"}
    watching = asyncio.gather(
        cluster.watch(SECRETS, resourceVersion=version, **about),
        cluster.watch(SECRETS, resourceVersion=str(int(version) + 1_000_000), **about),
    )
    await cluster.call("POST", SECRETS, secret(f"{name}-other"))
    await cluster.call("POST", SECRETS, secret(name))
    await cluster.call("PATCH", f"{SECRETS}/{name}", {"data": {"key": "eA=="}}, patch=True)
    await cluster.call("DELETE", f"{SECRETS}/{name}")
    await cluster.call("DELETE", f"{SECRETS}/{name}-other")
    told, waited = await watching
    assert told == [("ADDED", name), ("MODIFIED", name), ("DELETED", name)]
    assert waited == []


async def test_a_token_that_is_none(cluster: Cluster, name: str) -> None:
    status, told = await cluster.call("GET", f"{SECRETS}/{name}", token="no token")
    assert (status, told["reason"], told["message"]) == (401, "Unauthorized", "Unauthorized")
    status, told = await cluster.call("GET", "/api/v1/namespaces/default/nothing-of-the-kind")
    assert status == 404
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": "no token"}}
    status, told = await cluster.call("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)
    assert (status, told["status"].get("authenticated", False)) == (201, False)


# ---------------------------------------------------------------------- what only this server can be told to do


def proxy(api: KubernetesApi) -> tuple[Account, str]:
    account = api.account("aisix", "proxy")
    return account, api.accounts.token(account)


async def test_accounts_may_do_what_they_are_allowed(api: KubernetesApi, cluster: Cluster) -> None:
    account, token = proxy(api)
    for name in ("openai", "other"):
        api.put_secret("team", name, {"key": "sk-1"})
    api.accounts.allow(account, "get list", "secrets", "team", {"openai"})
    root = "/api/v1/namespaces/team/secrets"

    async def status(path: str, method: str = "GET") -> int:
        return (await cluster.call(method, path, token=token))[0]

    assert await status(f"{root}/openai") == 200
    assert await status(f"{root}?fieldSelector=metadata.name=openai") == 200
    for path in (f"{root}/other", root, "/api/v1/secrets", "/api/v1/namespaces/default/secrets/openai", LEASES):
        assert await status(path) == 403, path
    assert await status(f"{root}/openai", "DELETE") == 403
    _, told = await cluster.call("GET", f"{root}/other", token=token)
    who = "system:serviceaccount:aisix:proxy"
    what = 'cannot get resource "secrets" in API group "" in the namespace "team"'
    assert told["message"] == f'secrets "other" is forbidden: User "{who}" {what}'
    api.accounts.forbid(account)
    assert await status(f"{root}/openai") == 403


async def test_tokens_end_and_are_rotated(tmp_path: Path) -> None:
    clock = [time.time()]
    async with kubernetes_api(tmp_path / "api", now=lambda: clock[0]) as api:
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=api.ca))
        async with aiohttp.ClientSession(connector=connector) as session:
            cluster = Cluster(session, api.url, api.accounts.admin_token)
            account = api.account("aisix", "proxy")
            api.accounts.allow(account, "list", "secrets")
            token, foreign = api.accounts.token(account, lifetime=60), api.accounts.token(account, signer="a stranger")
            other = api.accounts.token(account, audience="elsewhere")

            async def status(token: str) -> int:
                return (await cluster.call("GET", SECRETS, token=token))[0]

            assert [await status(each) for each in (token, foreign, other)] == [200, 401, 401]
            clock[0] += 60
            assert await status(token) == 401
            fresh = api.accounts.rotate(account)
            newer = api.accounts.rotate(account)
            assert [await status(each) for each in (fresh, newer)] == [401, 200]
            api.mount(tmp_path / "pod", account)
            assert {path.name for path in (tmp_path / "pod").iterdir()} == {"token", "ca.crt", "namespace"}
            assert await status((tmp_path / "pod" / "token").read_text()) == 200


async def test_openbao_asks_it_about_tokens(api: KubernetesApi, fresh_openbao: OpenBao) -> None:
    account, token = proxy(api)
    reviewer = api.account("vault", "reviewer")
    api.accounts.allow(reviewer, "create", "tokenreviews")
    role = {"host": api.url, "ca": api.ca, "reviewer": api.accounts.token(reviewer), "accounts": "proxy"}
    bao = fresh_openbao
    await asyncio.to_thread(bao.kubernetes, "proxy", ["default"], **role)

    async def login(token: str) -> dict[str, Any]:
        return await asyncio.to_thread(bao.write, "auth/kubernetes/login", {"role": "proxy", "jwt": token})

    assert (await login(token))["auth"]["metadata"]["service_account_name"] == "proxy"
    other = api.accounts.token(api.account("aisix", "other"))
    api.accounts.rotate(account)
    for refused in (other, token):
        with pytest.raises(BaoRefused, match="403"):
            await login(refused)


async def test_watches_are_cut_compacted_and_bookmarked(api: KubernetesApi, cluster: Cluster) -> None:
    api.put_secret("default", "a", {"key": "1"})
    version = str(api.store.version)
    api.put_secret("default", "a", {"key": "2"})
    api.store.compact()
    assert await cluster.watch(SECRETS, resourceVersion=version) == [("ERROR", "")]

    for mid_line in (False, True):
        watching = asyncio.ensure_future(cluster.watch(SECRETS, allowWatchBookmarks="true"))
        while not len(api.watches):
            await asyncio.sleep(0)
        api.bookmark()
        api.cut_watches(mid_line=mid_line)
        with pytest.raises((aiohttp.ClientError, json.JSONDecodeError)):
            await watching

    query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    assert await cluster.watch(SECRETS, timeoutSeconds="0.1", **query) == [("ADDED", "a"), ("BOOKMARK", "")]
    watching = asyncio.ensure_future(cluster.watch(SECRETS, allowWatchBookmarks="true", timeoutSeconds="0.3"))
    while not len(api.watches):
        await asyncio.sleep(0)
    api.bookmark()
    assert await watching == [("ADDED", "a"), ("BOOKMARK", "")]


async def test_long_lists_come_in_pages(api: KubernetesApi, cluster: Cluster) -> None:
    for number in range(5):
        api.put_secret("default", f"s{number}", {}, metadata={"name": f"s{number}", "labels": {"n": str(number % 2)}})
    names, following = [], ""
    while True:
        _, page = await cluster.call("GET", f"{SECRETS}?limit=2&continue={following}")
        names += [item["metadata"]["name"] for item in page["items"]]
        if not (following := page["metadata"].get("continue", "")):
            break
    assert names == ["s0", "s1", "s2", "s3", "s4"]
    _, odd = await cluster.call("GET", f"{SECRETS}?labelSelector=n=1")
    assert [item["metadata"]["name"] for item in odd["items"]] == ["s1", "s3"]


async def test_faults_and_the_log_of_writes(api: KubernetesApi, cluster: Cluster) -> None:
    api.faults.add(429, retry_after="3", path="/secrets")
    assert (await cluster.call("GET", "/version"))[0] == 200
    status, told = await cluster.call("GET", SECRETS)
    assert (status, told["reason"], told["details"]["retryAfterSeconds"]) == (429, "TooManyRequests", 3)
    assert (await cluster.call("GET", SECRETS))[0] == 200
    account, token = proxy(api)
    api.accounts.allow(account, "create", "secrets", "default")
    status, _ = await cluster.call("POST", SECRETS, secret("a", stringData={"key": "x"}), token=token)
    api.delete_secret("default", "a")
    assert [(event.type, event.key.name, event.by) for event in api.store.log] == [
        ("ADDED", "a", account.username),
        ("DELETED", "a", "kubernetes-admin"),
    ]
    assert [event.version for event in api.store.log] == sorted({event.version for event in api.store.log})
    assert base64.b64decode(api.store.log[0].object["data"]["key"]) == b"x"
