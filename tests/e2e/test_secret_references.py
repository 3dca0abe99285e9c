"""Secrets that stay in their manager: a real etcd, a real OpenBao, and a provider that sees what it is sent.

Whatever becomes of the manager, no request goes out with a reference in place of a secret, nor with a wrong secret.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from aiohttp import web

from aisix_common.clock import SYSTEM_CLOCK, rfc3339
from aisix_common.secrets.envelope import Keyring, decode_key, new_key
from aisix_common.secrets.probe import Probe, ProbeAnswer, answers_prefix, decode, encode, probe_key
from aisix_common.secrets.rows import context
from aisix_common.service import Lifecycle
from aisix_common.settings import Address, Etcd, Settings
from aisix_common.settings.control import KeyringKey, Managed, SecretProvider, Secrets
from aisix_common.settings.listeners import Proxy
from aisix_common.settings.observability import Metrics as MetricsSettings
from aisix_common.settings.observability import Observability, Prometheus
from aisix_common.store.client import EtcdClient
from aisix_common.store.options import EtcdOptions
from aisix_common.tasks import TaskOwner
from aisix_proxy.app import Process, build

from tests.support import provider as providers
from tests.support.builders import Lines, Row, api_key, chat, model, provider_key
from tests.support.etcd import EtcdServer
from tests.support.openbao import OpenBao
from tests.support.raw_http import Response, ask, request

pytestmark = pytest.mark.e2e

FIRST, SECOND = "sk-caller-of-the-manager-1", "sk-caller-of-the-manager-2"
CALLER_REFERENCE: Final = "$secret://vault/api-key-path/my-key"
"""The customer's own example: the short form, with one provider."""
PROVIDER_REFERENCE: Final = "$secret://vault/main/openai/key"


def settings(etcd: EtcdServer, prefix: str, folder: Path, **secrets: Any) -> Settings:
    loopback = Address("127.0.0.1", 0)
    values: dict[str, Any] = {"refresh_secs": 1, "retry_secs": 1, "timeout_ms": 500}
    return Settings(
        proxy=Proxy(addr=loopback),
        etcd=Etcd(endpoints=(etcd.endpoint,), prefix=prefix),
        managed=Managed(snapshot_cache_path=str(folder / "cache")),
        observability=Observability(metrics=MetricsSettings(prometheus=Prometheus(addr=loopback))),
        secrets=Secrets(**values | secrets),
    )


@dataclass
class Gateway:
    """The proxy in this process, beside its provider and its etcd."""

    etcd: EtcdServer
    prefix: str
    provider: providers.Provider
    port: int = 0
    metrics: int = 0
    key: str = FIRST
    lifecycle: Lifecycle = field(default_factory=Lifecycle)

    async def put(self, *rows: Row, root: str = "") -> None:
        for kind, id, document in rows:
            await asyncio.to_thread(self.etcd.ctl, "put", f"{root}{self.prefix}/{kind}/{id}", json.dumps(document))

    async def asked(self, key: str | None = None) -> Response:
        return await ask(self.port, request(key=key or self.key, body=chat()))

    def sent(self) -> set[str]:
        """Every credential that the provider ever saw."""
        return {each.headers["authorization"] for each in self.provider.requests}

    async def status(self) -> Any:
        return (await ask(self.metrics, b"GET /status/config HTTP/1.1\r\nHost: x\r\n\r\n")).json

    async def until(self, condition: Callable[[Response], bool], key: str | None = None) -> Response:
        async with asyncio.timeout(15):
            while not condition(answer := await self.asked(key)):
                await asyncio.sleep(0.05)
        return answer

    async def until_state(self, state: str, count: int) -> Any:
        async with asyncio.timeout(15):
            while (found := (await self.status())["secrets"])[state] != count:
                await asyncio.sleep(0.05)
        return found


@asynccontextmanager
async def running(made: Settings, etcd: EtcdServer, environ: dict[str, str] | None = None) -> AsyncIterator[Gateway]:
    loop = asyncio.get_running_loop()
    async with providers.running() as provider, AsyncExitStack() as stack, TaskOwner() as tasks:
        gateway = Gateway(etcd, made.etcd.prefix, provider)
        listeners = await build(made, Process(environ or {}, Lines()), stack, gateway.lifecycle, tasks)
        ports, servers = [], []
        for listener in listeners:
            server = listener.make()
            listening = await loop.create_server(server, "127.0.0.1", 0)
            servers.append((server, listening))
            ports.append(listening.sockets[0].getsockname()[1])
        gateway.port, gateway.metrics = ports
        try:
            yield gateway
        finally:
            for server, listening in servers:
                listening.close()
                await server.shutdown(1.0)


def vault(uri: str, token: str, **fields: Any) -> Row:
    document = {"manager": "vault", "name": "main", "uri": uri, "auth": {"method": "token", "token": token}}
    return "secret_providers", "p-1", document | fields


async def served(gateway: Gateway, address: str, token: str) -> None:
    """A provider key and a caller key that are in the manager; returns when they are served."""
    await gateway.put(vault(address, token), root="/ext")
    await gateway.put(
        provider_key(api_base=gateway.provider.base, api_key=PROVIDER_REFERENCE),
        model(),
        api_key(key_hash=CALLER_REFERENCE),
    )
    await gateway.until(lambda answer: answer.status == 200)


async def test_a_key_in_the_manager_opens_and_its_rotation_is_followed(
    etcd: EtcdServer, etcd_prefix: str, tmp_path: Path, fresh_openbao: OpenBao
) -> None:
    bao = fresh_openbao
    bao.put("api-key-path", {"my-key": FIRST})
    bao.put("openai", {"key": "sk-upstream-1"})
    bao.policy("proxy", 'path "secret/data/*" { capabilities = ["read"] }')
    token = bao.token(["proxy"])
    async with running(settings(etcd, etcd_prefix, tmp_path), etcd) as gateway:
        await served(gateway, bao.address, token)
        assert gateway.sent() == {"Bearer sk-upstream-1"}
        for never in (CALLER_REFERENCE, "$SECRET://vault/api-key-path/my-key", SECOND):
            assert (await gateway.asked(never)).status == 401
        assert (await gateway.status())["secrets"]["resolved"] == 2
        await the_question_of_the_admin_is_answered(gateway)

        bao.put("api-key-path", {"my-key": SECOND})
        bao.put("openai", {"key": "sk-upstream-2"})
        await gateway.until(lambda answer: answer.status == 200, SECOND)
        await gateway.until(lambda answer: answer.status == 401, FIRST)
        gateway.key = SECOND
        await gateway.until(lambda _: "Bearer sk-upstream-2" in gateway.sent())

        bao.stop()
        told = await gateway.until_state("stale", 2)
        assert "did not answer" in told["references"][0]["reason"]
        assert (await gateway.asked()).status == 200
        bao.resume()
        await gateway.until_state("resolved", 2)
        bao.seal()
        await gateway.until_state("stale", 2)
        assert (await gateway.asked()).status == 200
        bao.unseal()
        await gateway.until_state("resolved", 2)

        bao.write("auth/token/revoke", {"token": token})
        told = await gateway.until_state("stale", 2)
        assert all(each["used_until"] for each in told["references"])
        assert (await gateway.asked()).status == 200
        await gateway.put(vault(bao.address, bao.token(["proxy"])), root="/ext")
        await gateway.until_state("resolved", 2)

        bao.delete("secret/metadata/openai")
        refused = await gateway.until(lambda answer: answer.status != 200)
        assert (refused.status, refused.error["type"]) == (503, "provider_unavailable")
        status = await gateway.status()
        assert [(row["resource_id"], row["last_error_kind"]) for row in status["rejected"]] == [
            ("pk-1", "secret_unresolved")
        ]
        bao.kill()
        await gateway.until_state("stale", 1)
        assert gateway.sent() == {"Bearer sk-upstream-1", "Bearer sk-upstream-2"}
        pages = (
            json.dumps(status) + (await ask(gateway.metrics, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")).body.decode()
        )
        assert 'aisix_secret_fetches_total{manager="vault",outcome="ok"}' in pages
        for secret in (FIRST, SECOND, "sk-upstream", token):
            assert secret not in pages


async def the_question_of_the_admin_is_answered(gateway: Gateway) -> None:
    root, token = f"/run{gateway.prefix}", "0123456789abcdef0123456789abcdef"
    probe = Probe(token, "vault/main", rfc3339(SYSTEM_CLOCK.now()), ("openai", "key"))
    async with EtcdClient(EtcdOptions(endpoints=(gateway.etcd.endpoint,))) as client:
        await client.put(probe_key(root, token), encode(probe))
        async with asyncio.timeout(10):
            while not (found := (await client.range(answers_prefix(root, token))).rows):
                await asyncio.sleep(0.05)
    told = decode(found[0].value, ProbeAnswer)
    assert told is not None
    assert (told.ok, told.reason) == (True, "")


async def test_a_new_key_of_the_keyring_opens_what_the_one_before_did_not(
    etcd: EtcdServer, etcd_prefix: str, tmp_path: Path
) -> None:
    file, right = tmp_path / "key", new_key()
    file.write_text(new_key())
    file.chmod(0o600)
    made = settings(etcd, etcd_prefix, tmp_path, keyring=(KeyringKey(id="k1", file=str(file)),))
    keyring = Keyring([("k1", decode_key(right))])
    sealed = keyring.seal("sk-upstream-1", context("provider_keys", "pk-1", ("api_key",)))
    async with running(made, etcd) as gateway:
        await gateway.put(provider_key(api_base=gateway.provider.base, api_key=sealed), model(), api_key(FIRST))
        refused = await gateway.until(lambda answer: answer.status not in (401, 404))
        assert (refused.status, refused.error["type"]) == (503, "provider_unavailable")
        (row,) = (await gateway.status())["rejected"]
        assert (row["resource_id"], row["last_error_kind"]) == ("pk-1", "secret_sealed")
        file.write_text(right)
        await gateway.until(lambda answer: answer.status == 200)
        assert gateway.sent() == {"Bearer sk-upstream-1"}


async def test_a_resources_file_names_secrets_of_the_managers_in_config_yaml(
    etcd: EtcdServer, tmp_path: Path, openbao: OpenBao
) -> None:
    openbao.put("in-file/openai", {"key": "sk-upstream-1"})
    options = {"uri": openbao.address, "auth": {"method": "token", "token": "$env://AISIX_SECRET_TOKEN"}}
    manager = SecretProvider(id="main", manager="vault", options=options)
    file = tmp_path / "resources.yaml"
    made = msgspec.structs.replace(settings(etcd, "/unused", tmp_path, providers=(manager,)), resources_file=str(file))
    environ = {"AISIX_SECRET_TOKEN": openbao.root_token, "AISIX_SECRET_CALLER": FIRST}
    text = """
_format_version: "1"
provider_keys:
- {display_name: demo, provider: openai, api_key: "$secret://vault/in-file/openai/key", api_base: "%s"}
models:
- {display_name: demo-model, provider: openai, model_name: gpt-4o, provider_key: demo}
api_keys:
- {display_name: tests, key_hash: "$env://AISIX_SECRET_CALLER", allowed_models: ["*"]}
"""
    async with providers.running() as provider:
        file.write_text(text % provider.base)
        async with running(made, etcd, environ) as gateway:
            await gateway.until(lambda answer: answer.status == 200)
            file.write_text(text.replace("in-file/openai/key", "in-file/openai/none") % provider.base)
            gateway.lifecycle.reload()
            answer = await gateway.until(lambda answer: answer.status != 200)
            assert answer.status == 503
            file.write_text(text % provider.base)
            gateway.lifecycle.reload()
            await gateway.until(lambda answer: answer.status == 200)
        assert {each.headers["authorization"] for each in provider.requests} == {"Bearer sk-upstream-1"}


@dataclass
class Double:
    """What of Vault's API a proxy asks for, with an error of the test's choice."""

    status: int = 200
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)

    async def answer(self, request: web.Request) -> web.Response:
        if self.status != 200:
            return web.json_response({"errors": ["the test's"]}, status=self.status)
        data = self.secrets.get(request.match_info["path"])
        if data is None:
            return web.json_response({"errors": []}, status=404)
        return web.json_response({"data": {"data": data, "metadata": {"version": 1}}})


@pytest.mark.parametrize(
    ("status", "state", "answer"),
    [(500, "stale", 200), (429, "stale", 200), (403, "stale", 200), (404, "failed", 401)],
)
async def test_what_the_manager_answers(
    status: int, state: str, answer: int, etcd: EtcdServer, etcd_prefix: str, tmp_path: Path
) -> None:
    double = Double(secrets={"openai": {"key": "sk-upstream-1"}, "api-key-path": {"my-key": FIRST}})
    app = web.Application()
    app.router.add_get("/v1/secret/data/{path:.*}", double.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        async with running(settings(etcd, etcd_prefix, tmp_path), etcd) as gateway:
            await served(gateway, f"http://127.0.0.1:{port}", "t")
            double.status = status
            await gateway.until_state(state, 2)
            assert (await gateway.asked()).status == answer
            assert gateway.sent() == {"Bearer sk-upstream-1"}
            double.status = 200
            await gateway.until(lambda got: got.status == 200)
    finally:
        await runner.cleanup()


async def test_a_start_without_etcd_and_with_a_keyring(
    fresh_etcd: EtcdServer, tmp_path: Path, openbao: OpenBao
) -> None:
    """References and providers come from the two caches, which are encrypted; a key of the environment opens."""
    openbao.put("start/openai", {"key": "sk-upstream-1"})
    key = tmp_path / "key"
    key.write_text("A" * 43 + "=")
    made = settings(fresh_etcd, "/aisix", tmp_path, keyring=(KeyringKey(id="k1", file=str(key)),))
    environ = {"AISIX_SECRET_TOKEN": openbao.root_token, "AISIX_SECRET_CALLER": FIRST + "\n"}
    async with running(made, fresh_etcd, environ) as gateway:
        await gateway.put(vault(openbao.address, "$env://AISIX_SECRET_TOKEN"), root="/ext")
        await gateway.put(
            provider_key(api_base=gateway.provider.base, api_key="$secret://vault/start/openai/key"),
            model(),
            api_key(key_hash="$env://AISIX_SECRET_CALLER"),
        )
        await gateway.until(lambda answer: answer.status == 200)
        base = gateway.provider.base
    await asyncio.to_thread(fresh_etcd.kill)
    for name in ("cache", "cache.ext"):
        assert b"secret://" not in (tmp_path / name).read_bytes(), "they are encrypted"
    async with running(made, fresh_etcd, environ) as gateway:
        async with asyncio.timeout(10):
            while not gateway.lifecycle.applied:
                await asyncio.sleep(0.02)
        assert (await gateway.status())["secrets"] == {
            "pending": 0,
            "resolved": 2,
            "stale": 0,
            "failed": 0,
            "references": [],
        }
        assert base, "the provider of before is gone, so only the way to it is tried"
        assert (await gateway.asked()).status == 502
