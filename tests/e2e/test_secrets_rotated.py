"""The keyring over its life: rotated twice under load until the first keys are gone, and services that have another."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from aisix_common.secrets.envelope import new_key

from tests.support import provider as providers
from tests.support.etcd import EtcdServer
from tests.support.gateway import CALLER_KEY, Gateway, aisix, running, until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("e2e")]

ROWS: Final = 60
"""Provider keys."""
MODELS: Final = 8
"""So many of them are called."""
EDITORS, CALLERS = 2, 2
PAUSE_SECONDS: Final = 0.03
"""Between two calls of each: the services that start have to get their share of the machine."""

VAULT: Final = {
    "manager": "vault",
    "name": "main",
    "uri": "https://vault.example.com",
    "auth": {"method": "token", "token": "hvs-1"},
}


def keyring(folder: Path, *ids: str) -> dict[str, Any]:
    return {"secrets": {"keyring": [{"id": id, "file": str(folder / id)} for id in ids]}, "admin": {"metrics_addr": ""}}


def generate(path: Path) -> None:
    """What `aisix secrets generate-key -o` writes."""
    path.write_text(new_key())
    path.chmod(0o600)


@dataclass
class Pods:
    """An admin and a proxy. A rollout starts new ones, sends the traffic there, and stops the old ones when what they
    were sent is answered, as a load balancer sees it."""

    folder: Path
    etcd: EtcdServer
    prefix: str
    now: dict[str, Gateway] = field(default_factory=dict)
    busy: dict[str, int] = field(default_factory=dict)
    """Requests under way, by the URL of who has them."""
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _rollouts: Iterator[int] = field(default_factory=itertools.count)

    async def roll(self, *ids: str) -> Path:
        """Every service with this keyring from now on; the configuration's path."""
        slot = self.folder / "ab"[next(self._rollouts) % 2]  # where a pod's volume, and the cache on it, is
        more, stack = keyring(self.folder, *ids), AsyncExitStack()
        new = await asyncio.gather(
            *(
                stack.enter_async_context(
                    running(slot / module, self.etcd.endpoint, self.prefix, more=more, module=module)
                )
                for module in ("aisix_admin", "aisix_proxy")
            )
        )
        old, self.now = self.now, dict(zip(("admin", "proxy"), new, strict=True))

        async def idle() -> bool:
            return not any(self.busy.get(each.proxy, 0) for each in old.values())

        await until(idle)
        await self._stack.aclose()
        self._stack = stack
        return slot / "aisix_admin" / "config.yaml"

    @contextmanager
    def using(self, which: str) -> Iterator[Gateway]:
        """The admin or the proxy of the moment."""
        gateway = self.now[which]
        self.busy[gateway.proxy] = self.busy.get(gateway.proxy, 0) + 1
        try:
            yield gateway
        finally:
            self.busy[gateway.proxy] -= 1

    async def aclose(self) -> None:
        await self._stack.aclose()


@dataclass
class Load:
    """Editors and callers, until `ended`."""

    pods: Pods
    promised: dict[int, dict[str, Any]] = field(default_factory=dict)
    """What the admin has said 200 to, by the number of the provider key."""
    secrets: set[str] = field(default_factory=set)
    """All that were ever sent to the admin."""
    called: int = 0
    edited: int = 0
    ended: bool = False

    async def create(self, base: str) -> None:
        rows = []
        for n in range(ROWS):
            self.promised[n] = {"display_name": f"key-{n}", "api_key": f"sk-{n}-first", "api_base": base}
            self.secrets.add(f"sk-{n}-first")
            rows.append({"kind": "provider_keys", "id": f"pk-{n}", "value": self.promised[n]})
        model = {"provider": "openai", "model_name": "m"}
        rows += [
            {
                "kind": "models",
                "id": f"m-{n}",
                "value": {**model, "display_name": f"model-{n}", "provider_key_id": f"pk-{n}"},
            }
            for n in range(MODELS)
        ]
        rows.append({"kind": "api_keys", "id": "k", "value": {"key": CALLER_KEY, "allowed_models": ["*"]}})
        for at in range(0, len(rows), 49):
            await self.pods.now["admin"].call("POST", "apply", {"resources": rows[at : at + 49]})

        async def served() -> bool:
            with self.pods.using("proxy") as proxy:
                return {(await proxy.chat("hello", model=f"model-{n}"))[0] for n in range(MODELS)} == {200}

        await until(served)

    async def edit(self, editor: int) -> None:
        """Edits its share of the rows, one after the other; every third time with a new secret."""
        for n in itertools.count():
            if self.ended:
                return
            at = (n * EDITORS + editor) % ROWS
            change: dict[str, Any] = {"strip_headers": [f"x-{editor}-{n}"]}
            if n % 3 == 0:
                change["api_key"] = f"sk-{at}-{n}"
                self.secrets.add(change["api_key"])
            with self.pods.using("admin") as admin:
                await admin.call("PATCH", f"provider_keys/pk-{at}", change)
            self.promised[at] = {**self.promised[at], **change}
            self.edited += 1
            await asyncio.sleep(PAUSE_SECONDS)

    async def call(self) -> None:
        while not self.ended:
            with self.pods.using("proxy") as proxy:
                status, told = await proxy.chat("hello", model=f"model-{self.called % MODELS}")
            assert status == 200, told
            self.called += 1
            await asyncio.sleep(PAUSE_SECONDS)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Raises what went wrong in any of them."""
        async with asyncio.TaskGroup() as group:
            for editor in range(EDITORS):
                group.create_task(self.edit(editor))
            for _ in range(CALLERS):
                group.create_task(self.call())
            try:
                yield
            finally:
                self.ended = True


@pytest.mark.slow  # processes are restarted one after the other, twice
@pytest.mark.timeout(120)
async def test_two_rotations_under_load(etcd: EtcdServer, etcd_prefix: str, tmp_path: Path) -> None:
    for id in ("k1", "k2", "k3"):
        generate(tmp_path / id)
    pods = Pods(tmp_path, etcd, etcd_prefix)
    load = Load(pods)
    async with providers.running() as provider:
        try:
            # As the guide tells: a new key comes last, moves to the front, and only then all is written anew.
            await pods.roll("k1", "k2")
            await load.create(provider.base)
            async with load.running():
                await reencrypted(await pods.roll("k2", "k1", "k3"), "k2", unused=["k1", "k3"])
                config = await pods.roll("k3", "k2", "k1")
                await reencrypted(config, "k3", unused=["k2", "k1"])
                for id in ("k1", "k2"):
                    (tmp_path / id).unlink()
                config = await pods.roll("k3")
                edited, called = load.edited, load.called
                await until(lambda: _more(load, edited + 20, called + 20))
            assert load.edited > ROWS and load.called > ROWS
            await nothing_is_lost(load, config, etcd, etcd_prefix)
            sent = {request.headers["authorization"].removeprefix("Bearer ") for request in provider.requests}
            assert sent <= load.secrets and len(sent) > MODELS
            status = json.loads((await aisix("secrets", "status", "--config", str(config), "--json"))[1])
            assert (status["sound"], status["keyring"], status["canary"]) == (True, ["k3"], "k3")
            assert status["keys"] == {"k3": {"rows": ROWS, "values": ROWS}} and status["clear"]["values"] == 0
            rejected = json.loads(await pods.now["proxy"].text("/status/config"))["rejected"]
            assert rejected == []
        finally:
            await pods.aclose()


async def reencrypted(config: Path, first: str, unused: Sequence[str]) -> None:
    code, _, said = await aisix("secrets", "reencrypt", "--config", str(config))
    assert code == 0, said
    assert (
        f"are under {first}" in said
        and f"may be removed from secrets.keyring of every service: {', '.join(unused)}" in said
    )


async def _more(load: Load, edited: int, called: int) -> bool:
    return load.edited > edited and load.called > called


async def nothing_is_lost(load: Load, config: Path, etcd: EtcdServer, prefix: str) -> None:
    """Each row is what the last answer of the admin promised, its secret included."""
    listed = await load.pods.now["admin"].call("GET", "provider_keys")
    assert len(listed) == ROWS
    for row in listed:
        promised = load.promised[int(row["id"].removeprefix("pk-"))]
        assert row["value"]["strip_headers"] == promised["strip_headers"]
    code, text, said = await aisix(
        "export", "--etcd", etcd.endpoint, "--prefix", prefix, "--config", str(config), "--reveal-secrets"
    )
    assert code == 0, said
    assert [each["api_key"] for each in load.promised.values() if each["api_key"] not in text] == []


async def test_services_with_another_keyring(fresh_etcd: EtcdServer, tmp_path: Path) -> None:
    """A proxy serves nothing that it cannot open, until it can; an admin writes nothing."""
    for name in ("right", "wrong", "k9"):
        (tmp_path / name).mkdir()
    generate(tmp_path / "right" / "k1")
    generate(tmp_path / "wrong" / "k1")
    generate(tmp_path / "k9" / "k9")

    def service(name: str, module: str, id: str = "k1") -> AbstractAsyncContextManager[Gateway]:
        folder = tmp_path / name
        return running(folder / module, fresh_etcd.endpoint, more=keyring(folder, id), module=module)

    async with AsyncExitStack() as stack, providers.running() as provider:
        admin, proxy, stranger = await asyncio.gather(
            *(
                stack.enter_async_context(each)
                for each in (
                    service("right", "aisix_admin"),
                    service("wrong", "aisix_proxy"),
                    service("k9", "aisix_admin", "k9"),
                )
            )
        )
        key = await admin.call(
            "POST", "provider_keys", {"display_name": "demo", "api_key": "sk-upstream-1", "api_base": provider.base}
        )
        model = {"display_name": "demo-model", "provider": "openai", "model_name": "m", "provider_key_id": key["id"]}
        await admin.call("POST", "models", model)
        vault = await admin.call("POST", "secret_providers", VAULT)
        await admin.call("POST", "api_keys", {"key": CALLER_KEY, "allowed_models": ["*"]})
        await a_proxy_serves_nothing(proxy, admin, {key["id"]: "provider_keys", vault["id"]: "secret_providers"})
        await an_admin_writes_nothing(stranger, fresh_etcd, key["id"])
        assert provider.requests == []

        (tmp_path / "wrong" / "k1").write_bytes((tmp_path / "right" / "k1").read_bytes())

        async def serves() -> bool:
            return (await proxy.chat("hello"))[0] == 200

        await until(serves)
        assert {request.headers["authorization"] for request in provider.requests} == {"Bearer sk-upstream-1"}

        async def told() -> bool:
            (row,) = await admin.call("GET", "instances")
            return (row["rejected"], row["rejected_count"]) == ([], 0)

        await until(told)
        assert json.loads(await proxy.text("/status/config"))["rejected"] == []


async def a_proxy_serves_nothing(proxy: Gateway, admin: Gateway, sealed: Mapping[str, str]) -> None:
    """`sealed`: the kinds of the rows that hold secrets, by id."""

    async def refused() -> bool:
        status, told = await proxy.chat("hello")
        assert status in (401, 404, 503), told
        return bool(status == 503 and told["error"]["type"] == "provider_unavailable")

    await until(refused)
    rejected = json.loads(await proxy.text("/status/config"))["rejected"]
    assert {row["resource_id"]: row["resource_kind"] for row in rejected} == sealed
    assert all(row["last_error_kind"] == "secret_sealed" and "k1" in row["last_error"] for row in rejected)

    async def told() -> bool:
        (one,) = await admin.call("GET", "instances")
        return {each["id"]: each["kind"] for each in one["rejected"]} == sealed

    await until(told)
    page = await proxy.text("/metrics")
    assert all(f'aisix_config_rejected_resources{{kind="{kind}"}} 1' in page for kind in sealed.values())


async def an_admin_writes_nothing(stranger: Gateway, etcd: EtcdServer, id: str) -> None:
    def written() -> list[Any]:
        """With revisions; but for the rows that services write of themselves."""
        roots = ("/aisix", "/ext", "/run/aisix/history", "/run/aisix/audit", "/run/aisix/keyring")
        found = [json.loads(etcd.ctl("get", root, "--prefix", "-w", "json")).get("kvs", []) for root in roots]
        assert [len(each) for each in found[:2]] == [3, 1] and len(found[4]) == 1
        return found

    before = written()
    provider = {**VAULT, "name": "other"}
    for method, path, body in (
        ("POST", "provider_keys", {"display_name": "q", "api_key": "sk-q"}),
        ("PATCH", f"provider_keys/{id}", {"api_key": "sk-q"}),
        ("POST", "secret_providers", provider),
        ("POST", "apply", {"resources": [{"kind": "secret_providers", "value": provider}]}),
    ):
        told = await stranger.call(method, path, body, expect=409)
        assert 'key "k1"' in told["error_msg"] and "secrets.keyring" in told["error_msg"]
        assert "sk-q" not in json.dumps(told)
    assert written() == before
