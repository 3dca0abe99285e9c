"""What nobody gets by writing a row or presenting a text: the gateway's own variables, Secrets outside of the lists, a
secret sent to another address, a reference used as a key, a sealed value used elsewhere."""

import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from aiohttp import web

from aisix_common.secrets.envelope import new_key

from tests.support import provider as providers
from tests.support.doubles import listening
from tests.support.etcd import EtcdServer
from tests.support.gateway import ADMIN_KEY, CALLER_KEY, PROVIDER_SECRET, Gateway, running, until
from tests.support.kubernetes_api import kubernetes_api

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("e2e")]

PREFIX: Final = "/refused/aisix"
FOLDED: Final = "aisix_anything_else"
OWN: Final = ("MY_KEYRING", "MY_ADMIN", "AISIX_SECRETS__REFRESH_SECS", "AISIX_ANYTHING", FOLDED)
"""Variables that no reference may read, although `secrets.env_allow` says `*`."""
ENVIRON: Final = {
    "MY_KEYRING": new_key(),
    "MY_ADMIN": ADMIN_KEY,
    "AISIX_SECRETS__REFRESH_SECS": "301",
    "AISIX_ANYTHING": "canary-anything",
    FOLDED: "canary-folded",
    "AISIX_SECRET_GOOD": "sk-good-one",
    "TEAM_KEY": "sk-team",
}
MORE: Final = {
    "admin": {"admin_keys": [{"name": "ops", "key_env": "MY_ADMIN"}]},
    "secrets": {"keyring": [{"id": "k1", "env": "MY_KEYRING"}], "env_allow": ["*"], "retry_secs": 1},
}


@dataclass
class Bench:
    """A gateway, what it calls, and etcd behind its back."""

    gateway: Gateway
    provider: providers.Provider
    etcd: EtcdServer

    def put(self, kind: str, id: str, document: Any, root: str = "") -> None:
        """As somebody who may write etcd, past the admin."""
        self.etcd.ctl("put", f"{root}{PREFIX}/{kind}/{id}", json.dumps(document))

    def stored(self, kind: str, id: str) -> Any:
        return json.loads(self.etcd.ctl("get", f"{PREFIX}/{kind}/{id}", "--print-value-only"))

    def route(self, name: str, **provider_key: Any) -> None:
        """A model `name` with a provider key of the same name, written into etcd."""
        self.put("provider_keys", name, {"display_name": name, "api_base": self.provider.base, **provider_key})
        model = {"display_name": name, "provider": "openai", "model_name": "m", "provider_key_id": name}
        self.put("models", name, model)

    async def rejected(self, *ids: str) -> dict[str, str]:
        """What `/status/config` says of these rows, once it names them all: `<kind of failure>: <reason>` by id."""
        found: dict[str, str] = {}

        async def all_there() -> bool:
            rows = json.loads(await self.gateway.text("/status/config"))["rejected"]
            found.update({row["resource_id"]: f"{row['last_error_kind']}: {row['last_error']}" for row in rows})
            return found.keys() >= set(ids)

        await until(all_there)
        return found

    def sent(self) -> set[str]:
        return {request.headers.get("authorization", "") for request in self.provider.requests}


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def bench(etcd: EtcdServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    folder: Path = tmp_path_factory.mktemp("refused")
    async with (
        providers.running() as provider,
        running(folder, etcd.endpoint, PREFIX, more=MORE, environ=ENVIRON) as gateway,
    ):
        await gateway.serve(provider.base)
        await gateway.call("PATCH", f"api_keys/{gateway.ids['api_key']}", {"allowed_models": ["*"]})
        yield Bench(gateway, provider, etcd)
    assert gateway.process.returncode == 0
    log = gateway.log.read_text()
    assert not [secret for secret in ENVIRON.values() if len(secret) > 3 and secret in log]


async def test_own_variables_are_refused_at_the_door(bench: Bench) -> None:
    for name in OWN:
        for text in (f"$env://{name}", f"$ENV://{name}", f"$env://{name}/member"):
            for path, document, field in (
                ("provider_keys", {"display_name": "q", "api_key": text}, "/api_key"),
                ("api_keys", {"key": text, "allowed_models": []}, "/key_hash"),
                ("api_keys", {"key_hash": text, "allowed_models": []}, "/key_hash"),
                ("secret_providers", vault("https://v.example.com", text), "/auth/token"),
            ):
                told = await bench.gateway.call("POST", path, document, expect=400)
                assert [each["path"] for each in told["errors"]] == [field], told
                assert "gateway's own configuration" in told["error_msg"]
                assert not any(secret in json.dumps(told) for secret in ENVIRON.values() if secret != "301")
        await bench.gateway.call(
            "PATCH", f"provider_keys/{bench.gateway.ids['provider_key']}", {"api_key": f"$env://{name}"}, expect=400
        )


def vault(uri: str, token: str) -> dict[str, Any]:
    return {"manager": "vault", "name": "v", "uri": uri, "auth": {"method": "token", "token": token}}


async def test_own_variables_behind_the_admins_back(bench: Bench) -> None:
    """Rows with them are out of service and say why, nobody is sent the values, and the admin key opens nothing."""
    caught: list[str] = []

    async def catch(request: web.Request) -> web.Response:
        caught.append(f"{request.path} {dict(request.headers)}")
        return web.json_response({"errors": []}, status=404)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", catch)
    async with listening(app) as port:
        bench.put("secret_providers", "v", vault(f"http://127.0.0.1:{port}", "$env://MY_KEYRING"), root="/ext")
        for n, name in enumerate(OWN):
            bench.route(f"own-{n}", api_key=f"$env://{name}")
        bench.route("through", api_key="$secret://vault/v/some/key")
        bench.route("in-header", api_key="sk-x", request={"default_headers": {"x": "$ENV://MY_KEYRING"}})
        bench.route("good", api_key="$env://AISIX_SECRET_GOOD")
        bench.route("team", api_key="$env://TEAM_KEY")
        bench.put("api_keys", "own", {"key_hash": "$env://MY_ADMIN", "allowed_models": ["*"]})
        bad = [*(f"own-{n}" for n in range(len(OWN))), "through", "in-header"]
        reasons = await bench.rejected(*bad, "own")
        for id in (*bad, "own"):
            assert reasons[id].startswith("secret_unresolved: ")
            assert id == "through" or "gateway's own configuration" in reasons[id]
        for name in bad:
            status, told = await bench.gateway.chat("hello", model=name)
            assert (status, told["error"]["type"]) == (503, "provider_unavailable"), told
        assert (await bench.gateway.chat("hello", model="good", key=ADMIN_KEY))[0] == 401
        for name in ("good", "team"):
            assert (await bench.gateway.chat("hello", model=name))[0] == 200, "what the operator offers is used"
        assert bench.sent() <= {f"Bearer {secret}" for secret in (PROVIDER_SECRET, "sk-good-one", "sk-team")}
        assert not any(ENVIRON["MY_KEYRING"] in each for each in caught)


async def test_a_kubernetes_secret_outside_of_the_lists(bench: Bench, tmp_path: Path) -> None:
    """Although the token of the provider could read all of them."""
    async with kubernetes_api(tmp_path) as api:
        secrets = ("aisix-secret-good", "aisix-secret-other", "db-password")
        for name in secrets:
            api.put_secret("team", name, {"key": f"sk-{name}"})
        cluster = {"manager": "kubernetes", "apiserver": api.url, "token": api.accounts.admin_token, "ca_cert": api.ca}
        for provider, names in (("narrow", ["aisix-secret-good"]), ("wide", ["*"])):
            await bench.gateway.call(
                "POST", "secret_providers", {**cluster, "name": provider, "namespaces": ["team"], "names": names}
            )
        for model, place in (
            ("k-good", "narrow/team/aisix-secret-good"),
            ("k-by-provider", "narrow/team/aisix-secret-other"),
            ("k-by-operator", "wide/team/db-password"),
            ("k-elsewhere", "wide/kube-system/aisix-secret-good"),
            ("k-dots", "wide/team/..%2Fdb-password"),
        ):
            bench.route(model, api_key=f"$secret://kubernetes/{place}/key")
        reasons = await bench.rejected("k-by-provider", "k-by-operator", "k-elsewhere", "k-dots")
        assert "is not in the provider's namespaces and names" in reasons["k-by-provider"]
        assert "is not offered by secrets.kubernetes_allow" in reasons["k-by-operator"]
        assert "is not in the provider's namespaces and names" in reasons["k-elsewhere"]

        async def served() -> bool:
            return (await bench.gateway.chat("hello", model="k-good"))[0] == 200

        await until(served)
        asked = {each.path for each in api.seen if "/secrets/" in each.path}
        assert asked == {"/api/v1/namespaces/team/secrets/aisix-secret-good"}
        assert "Bearer sk-aisix-secret-good" in bench.sent()
        assert not any("other" in each or "password" in each for each in bench.sent())


MOVED: Final = (
    ("provider_keys", {"display_name": "m", "api_key": "s", "api_base": "https://a.example.com/v1"}, "api_base"),
    ("guardrails", {"name": "m", "kind": "lakera", "api_key": "s", "endpoint": "https://a.example.com"}, "endpoint"),
    (
        "observability_exporters",
        {"name": "m", "kind": "otlp_http", "endpoint": "https://a.example.com/v1", "headers": {"x": "s"}},
        "endpoint",
    ),
    ("mcp_servers", {"name": "m", "url": "https://a.example.com", "auth_type": "bearer", "secret": "s"}, "url"),
    ("a2a_agents", {"name": "m", "url": "https://a.example.com", "auth_type": "bearer", "secret": "s"}, "url"),
    ("secret_providers", vault("https://a.example.com", "s"), "uri"),
)


async def test_a_masked_secret_goes_nowhere_else(bench: Bench) -> None:
    for kind, document, field in MOVED:
        name = {"name": "moved"} if "name" in document else {"display_name": "moved"}
        made = await bench.gateway.call("POST", kind, {**document, **name})
        path, there = f"{kind}/{made['id']}", "https://e.example.com"
        assert "***" in json.dumps(made["value"])
        for method, sent in (("PATCH", {field: there}), ("PUT", {**made["value"], field: there})):
            told = await bench.gateway.call(method, path, sent, expect=400)
            assert f"because `{field}` changes" in told["error_msg"], told
        assert (await bench.gateway.call("GET", path))["value"] == made["value"]
        whole = {**document, **name, field: there}
        assert (await bench.gateway.call("PUT", path, whole))["value"][field] == there, "the secret was given again"
        await bench.gateway.call("DELETE", path)


async def test_a_reference_is_no_key(bench: Bench) -> None:
    """Not even where somebody has stored the hash of its very text."""
    texts = (
        "$secret://vault/api-key-path/my-key",
        "$SECRET://vault/v/api-key-path/my-key",
        "$env://AISIX_SECRET_GOOD",
        "$ENV://AISIX_SECRET_GOOD",
        "$env://MY_ADMIN",
    )
    for n, text in enumerate(texts):
        hashed = hashlib.sha256(text.encode()).hexdigest()
        bench.put("api_keys", f"literal-{n}", {"key_hash": hashed, "allowed_models": ["*"]})
    bench.put("api_keys", "resolved", {"key_hash": "$env://AISIX_SECRET_GOOD", "allowed_models": ["*"]})

    async def opened() -> bool:
        return (await bench.gateway.chat("hello", key="sk-good-one"))[0] == 200

    await until(opened)
    before = len(bench.provider.requests)
    for text in texts:
        status, told = await bench.gateway.chat("hello", key=text)
        assert status == 401 and text not in json.dumps(told)
    assert len(bench.provider.requests) == before
    assert (await bench.gateway.chat("hello", key=CALLER_KEY))[0] == 200


async def test_a_sealed_text_is_no_secret(bench: Bench) -> None:
    """It is not taken for one, and one that is copied to another row does not open there."""
    gateway = bench.gateway
    sealed = bench.stored("provider_keys", gateway.ids["provider_key"])["api_key"]
    assert sealed.startswith("enc:v1:k1:")
    for text in ("enc:v1:", "enc:v1:k1:AAAA", sealed):
        for path, document in (
            ("provider_keys", {"display_name": "q", "api_key": text}),
            ("api_keys", {"key_hash": text, "allowed_models": []}),
            ("secret_providers", vault("https://v.example.com", text)),
        ):
            told = await gateway.call("POST", path, document, expect=400)
            assert sealed not in json.dumps(told)
    bench.route("copied", api_key=sealed)
    bench.route("nonsense", api_key="enc:v1:k1:AAAA")
    reasons = await bench.rejected("copied", "nonsense")
    assert all(reasons[id].startswith("secret_sealed: ") for id in ("copied", "nonsense"))
    before = len(bench.provider.requests)
    for name in ("copied", "nonsense"):
        assert (await gateway.chat("hello", model=name))[0] == 503
    assert len(bench.provider.requests) == before
