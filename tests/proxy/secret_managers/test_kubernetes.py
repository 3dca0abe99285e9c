"""Secrets of a cluster: what may be read at all, and what each answer of the API server means."""

import base64
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from aisix_common.resources import SECRET_PROVIDERS, check
from aisix_common.resources.secret_providers import Kubernetes
from aisix_proxy.secret_managers.base import Away, Context, NoSuchSecret, Refused, Unresolved, Unusable
from aisix_proxy.secret_managers.kubernetes import KubernetesClient

from .scripted_api import context, scripted_api
from tests.support.authority import authority
from tests.support.kubernetes_api import kubernetes_api

CANARY = "sk-canary-93be"
ALL = ("*/*",)

Open = Callable[..., KubernetesClient]


def provider(**fields: Any) -> Kubernetes:
    """As it comes out of a row."""
    document = {"manager": "kubernetes", "name": "main", "namespaces": ["*"], "names": ["*"], **fields}
    found = check(SECRET_PROVIDERS, document)
    assert isinstance(found, Kubernetes)
    return found


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    """Makes clients of another cluster's API server, and closes them."""
    async with AsyncExitStack() as stack:

        def make(apiserver: str, built_on: Context | None = None, **fields: Any) -> KubernetesClient:
            fields = {"apiserver": apiserver, "token": CANARY, **fields}
            client = KubernetesClient(provider(**fields), built_on or context(kubernetes_allow=ALL))
            stack.push_async_callback(client.aclose)
            return client

        yield make


async def refusal(client: KubernetesClient, *path: str) -> Unresolved:
    """What a fetch ends with. No reason ever holds what must not be seen."""
    with pytest.raises(Unresolved) as raised:
        await client.fetch(path)
    assert CANARY not in str(raised.value)
    return raised.value


def secret(**data: str | bytes) -> dict[str, Any]:
    """The object as the API server shows it."""
    encoded = {
        key: base64.b64encode(value.encode() if isinstance(value, str) else value).decode()
        for key, value in data.items()
    }
    return {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "s"}, "data": encoded, "type": "Opaque"}


def status(reason: str, code: int) -> dict[str, Any]:
    """The object with which the API server refuses."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": CANARY,
        "reason": reason,
        "code": code,
    }


@pytest.mark.parametrize("value", ["sk-1", "ü", "two\nlines\n", '{"a": 1}'])
async def test_a_key_of_a_secret(opened: Open, value: str) -> None:
    async with scripted_api() as api:
        api.says(200, secret(**{"tls.key_1": value}))
        fetched = await opened(f"{api.address}/").fetch(["team-a", "aisix-secret-1", "tls.key_1"])
    assert fetched.value.reveal() == value
    assert fetched.lifetime is None
    [asked] = api.asked
    assert (asked.method, asked.path) == ("GET", "/api/v1/namespaces/team-a/secrets/aisix-secret-1")
    assert asked.headers["Authorization"] == f"Bearer {CANARY}"


@pytest.mark.parametrize(
    ("namespaces", "names", "allow", "path", "says"),
    [
        (["a"], ["s"], ["a/s"], ("a", "s"), None),
        (["a*"], ["*"], ["*/s"], ("a-b", "s"), None),
        (["a", "b"], ["s", "t"], ["x/y", "b/*"], ("b", "t"), None),
        (["a"], ["s"], ["*/*"], ("b", "s"), "not in the provider's namespaces and names"),
        (["a"], ["s"], ["*/*"], ("a", "t"), "not in the provider's namespaces and names"),
        (["a"], ["s"], ["*/*"], ("a", "ss"), "not in the provider's namespaces and names"),
        (["*"], ["*"], ["*/aisix-secret-*"], ("a", "s"), r"secrets.kubernetes_allow \(it offers \*/aisix-secret-\*\)"),
        (["*"], ["*"], ["a/aisix-secret-*"], ("b", "aisix-secret-1"), "secrets.kubernetes_allow"),
        (["*"], ["*"], ["a/s"], ("a-b", "s"), "secrets.kubernetes_allow"),
        (["*"], ["*"], [], ("a", "s"), "it offers none"),
        (["*"], ["*"], ["*"], ("A", "s"), "as Kubernetes names them"),
        (["*"], ["*"], ["*"], ("a", "s:b"), "as Kubernetes names them"),
        (["*"], ["*"], ["*"], ("a", ".."), "as Kubernetes names them"),
        (["*"], ["*"], ["*"], ("a", "s" * 254), "as Kubernetes names them"),
    ],
)
async def test_both_lists_must_allow_it_before_anybody_is_asked(
    opened: Open, namespaces: Sequence[str], names: Sequence[str], allow: Sequence[str], path: Sequence[str], says: str
) -> None:
    async with scripted_api() as api:
        api.says(200, secret(k="v"))
        client = opened(api.address, context(kubernetes_allow=allow), namespaces=namespaces, names=names)
        if says is None:
            assert (await client.fetch([*path, "k"])).value.reveal() == "v"
            return
        with pytest.raises(Unusable, match=says):
            await client.fetch([*path, "k"])
    assert api.asked == []


@pytest.mark.parametrize("path", [("a",), ("a", "s"), ("a", "s", "k", "more")])
async def test_paths_that_are_no_key_of_a_secret(opened: Open, path: Sequence[str]) -> None:
    assert isinstance(await refusal(opened("http://127.0.0.1:9"), *path), Unusable)


@pytest.mark.parametrize(
    ("code", "body", "kind", "says"),
    [
        (200, secret(other="v"), NoSuchSecret, "Secret a/s has no such key"),
        (200, {"kind": "Secret"}, NoSuchSecret, "has no such key"),
        (200, secret(k=""), NoSuchSecret, "is empty"),
        (200, secret(k=b"\xff\x00"), NoSuchSecret, "no text in UTF-8"),
        (200, {"kind": "Secret", "data": {"k": CANARY}}, NoSuchSecret, "no text in UTF-8"),
        (200, {"kind": "SecretList", "data": {}}, Away, "is not the Kubernetes API server"),
        (200, b"<html>welcome", Away, "is not the Kubernetes API server"),
        (302, b"", Away, "answers 302"),
        (401, status("Unauthorized", 401), Refused, "refuses the token (401)"),
        (403, status("Forbidden", 403), Refused, "the service account needs `get` on it"),
        (404, status("NotFound", 404), NoSuchSecret, "Secret a/s does not exist"),
        (404, b"404 page not found", Away, "is not the Kubernetes API server"),
        (404, {"kind": "Other"}, Away, "is not the Kubernetes API server"),
        (429, status("TooManyRequests", 429), Away, "throttles us"),
        (500, status("InternalError", 500), Away, "answers 500"),
        (503, b"", Away, "answers 503"),
        (200, secret(k="x" * (4 << 20)), Away, "more than 4 MiB"),
    ],
)
async def test_answers(opened: Open, code: int, body: object, kind: type[Unresolved], says: str) -> None:
    async with scripted_api() as api:
        api.says(code, body, {"Location": "http://127.0.0.1:9/"})
        refused = await refusal(opened(api.address), "a", "s", "k")
    assert type(refused) is kind
    assert says in str(refused)
    assert len(api.asked) == 1


async def test_a_large_secret_is_read(opened: Open) -> None:
    async with scripted_api() as api:
        api.says(200, secret(k="x" * (1 << 20)))
        assert len((await opened(api.address).fetch(["a", "s", "k"])).value.reveal()) == 1 << 20


@pytest.mark.parametrize(
    ("code", "body", "kind"),
    [
        (200, {"major": "1", "gitVersion": "v1.36.2"}, None),
        (200, b"<html>welcome", Away),
        (401, status("Unauthorized", 401), Refused),
        (403, status("Forbidden", 403), Refused),
        (503, b"", Away),
    ],
)
async def test_probing(opened: Open, code: int, body: object, kind: type[Unresolved] | None) -> None:
    async with scripted_api() as api:
        api.says(code, body)
        client = opened(api.address)
        if kind is None:
            await client.probe()
        else:
            with pytest.raises(kind):
                await client.probe()
    assert api.paths == ["GET /version"]
    assert api.asked[0].headers["Authorization"] == f"Bearer {CANARY}"


def _mounted(folder: Path, token: str, authority_name: str) -> None:
    (folder / "token").write_text(f"{token}\n")
    (folder / "ca.crt").write_text(authority(authority_name).pem)


def _pod(address: str, folder: Path, timeout: float = 5.0) -> Context:
    port = address.rsplit(":", 1)[1]
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": port}
    return context(environ=environ, kubernetes_allow=ALL, service_account=folder, timeout=timeout)


async def test_the_own_cluster_with_what_is_mounted_into_the_pod(tmp_path: Path) -> None:
    """Token and authority are read at each use: both are replaced in the life of a pod."""
    account, server = tmp_path / "account", tmp_path / "server"
    account.mkdir()
    server.mkdir()
    async with scripted_api(authority("old").server(server, "127.0.0.1")) as api:
        api.says(200, secret(k="v"))
        client = KubernetesClient(provider(), _pod(api.address, account))
        with pytest.raises(Refused, match="no readable token"):
            await client.fetch(["a", "s", "k"])
        for token in ("one", "two"):
            _mounted(account, token, "old")
            assert (await client.fetch(["a", "s", "k"])).value.reveal() == "v"
            assert api.asked[-1].headers["Authorization"] == f"Bearer {token}"
        for name in ("new", "newer"):
            _mounted(account, "three", name)
            with pytest.raises(Away, match="certificate is refused"):
                await client.fetch(["a", "s", "k"])
        _mounted(account, "four", "old")
        assert (await client.fetch(["a", "s", "k"])).value.reveal() == "v"
        await client.aclose()
        with pytest.raises(Away, match="changed meanwhile"):
            await client.fetch(["a", "s", "k"])
    assert [asked.headers["Authorization"] for asked in api.asked] == ["Bearer one", "Bearer two", "Bearer four"]


async def test_the_life_of_a_secret_in_a_cluster(tmp_path: Path) -> None:
    async with kubernetes_api(tmp_path / "cluster") as cluster:
        proxy, folder = cluster.account("aisix", "proxy"), tmp_path / "account"
        cluster.accounts.allow(proxy, "get", "secrets", "team", names={"aisix-secret-openai"})
        cluster.mount(folder, proxy)
        client = KubernetesClient(provider(), _pod(cluster.url, folder, timeout=0.3))
        path = ["team", "aisix-secret-openai", "key"]
        await client.probe()

        assert type(await refusal(client, *path)) is NoSuchSecret
        for value in ("sk-1", "sk-2"):
            cluster.put_secret("team", "aisix-secret-openai", {"key": value})
            assert (await client.fetch(path)).value.reveal() == value
        for times, fault in ((1, {"status": 429, "retry_after": "1"}), (1, {"status": 500}), (2, {"cut": True})):
            cluster.faults.add(**fault, times=times)
            assert type(await refusal(client, *path)) is Away
        cluster.faults.add(hang=True)
        assert "did not answer within 0.3 s" in str(await refusal(client, *path))

        cluster.put_secret("team", "other", {"key": CANARY})
        assert type(await refusal(client, "team", "other", "key")) is Refused
        cluster.accounts.rotate(proxy)
        assert type(await refusal(client, *path)) is Refused
        with pytest.raises(Refused):
            await client.probe()
        cluster.mount(folder, proxy)
        assert (await client.fetch(path)).value.reveal() == "sk-2"
        cluster.delete_secret("team", "aisix-secret-openai")
        assert type(await refusal(client, *path)) is NoSuchSecret
        await client.aclose()
    assert {seen.method for seen in cluster.seen} == {"GET"}


async def test_another_cluster_by_its_token(opened: Open, tmp_path: Path) -> None:
    async with kubernetes_api(tmp_path) as cluster:
        proxy = cluster.account("aisix", "proxy")
        cluster.accounts.allow(proxy, "get", "secrets", "team")
        cluster.put_secret("team", "s", {"key": "sk-1"})
        client = opened(cluster.url, token=cluster.accounts.token(proxy), ca_cert=cluster.ca)
        assert (await client.fetch(["team", "s", "key"])).value.reveal() == "sk-1"
        await client.probe()


async def test_a_certificate_authority_of_the_providers_own(opened: Open, tmp_path: Path) -> None:
    async with scripted_api(authority("cluster").server(tmp_path, "127.0.0.1")) as api:
        api.says(200, secret(k="v"))
        assert (
            await opened(api.address, ca_cert=authority("cluster").pem).fetch(["a", "s", "k"])
        ).value.reveal() == "v"
        assert isinstance(await refusal(opened(api.address), "a", "s", "k"), Away)


@pytest.mark.parametrize("environ", [{}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, {"KUBERNETES_SERVICE_PORT": "443"}])
def test_outside_of_a_cluster_there_is_no_own_one(environ: dict[str, str]) -> None:
    with pytest.raises(Unusable, match="runs in no Kubernetes cluster"):
        KubernetesClient(provider(), context(environ=environ))


async def test_the_pods_token_never_goes_to_another_cluster(opened: Open, tmp_path: Path) -> None:
    _mounted(tmp_path, "of-the-pod", "old")
    async with scripted_api() as api:
        api.says(200, secret(k="v"))
        built_on = context(kubernetes_allow=ALL, service_account=tmp_path, environ={"KUBERNETES_SERVICE_HOST": "x"})
        await opened(api.address, built_on).fetch(["a", "s", "k"])
    assert api.asked[0].headers["Authorization"] == f"Bearer {CANARY}"


async def test_an_ipv6_cluster(tmp_path: Path) -> None:
    _mounted(tmp_path, "t", "old")
    environ = {"KUBERNETES_SERVICE_HOST": "::1", "KUBERNETES_SERVICE_PORT": "9"}
    client = KubernetesClient(provider(), context(environ=environ, kubernetes_allow=ALL, service_account=tmp_path))
    assert isinstance(await refusal(client, "a", "s", "k"), Away)
    await client.aclose()
