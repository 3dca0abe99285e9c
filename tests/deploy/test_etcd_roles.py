"""etcd's roles on a real etcd with authentication: what each service may not do, key by key, and that each works."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from aisix_common.errors import StoreDenied, StoreError
from aisix_common.install.etcd_api import EtcdApi, Refused, Tls
from aisix_common.install.etcd_auth import Credential, set_up
from aisix_common.install.progress import Job
from aisix_common.install.roles import roles
from aisix_common.secret import Secret
from aisix_common.settings.storage import Etcd
from aisix_common.store.client import EtcdClient, EtcdOptions
from aisix_common.store.options import TlsMaterial
from aisix_common.store.types import Delete, Put

from tests.chaos.cloud_process import CloudProcess
from tests.common.install.etcd import certificates
from tests.support import provider as providers
from tests.support.etcd import EtcdServer
from tests.support.gateway import Gateway, running, until
from tests.support.managed import Managed, demo_rows, managed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

ROOT: Final = Credential("root", "root-password")
USERS: Final = {name: Credential(name, f"{name}-password") for name in ("proxy", "admin", "cloud-agent")}

_CHEAP: Final = ("--bcrypt-cost", "4")
"""Every test logs in."""

KEYS: Final = {
    "resource": "/aisix/models/m",
    "ext": "/ext/aisix/ssls/s",
    "keyring": "/run/aisix/keyring",
    "turn": "/run/aisix/turn",
    "turn-ext": "/run/aisix/turn-ext",
    "history": "/run/aisix/history/models/m",
    "audit": "/run/aisix/audit/a",
    "instance": "/run/aisix/instances/i",
    "question": "/run/aisix/probes/t",
    "answer": "/run/aisix/asking/t/i",
    "projection": "/run/aisix/projection",
    "epoch": "/run/aisix/agent/epoch",
    "leader": "/run/aisix/agent/leader",
    "outbox": "/run/aisix/outbox/s/1",
    "asked": "/run/aisix/budgets/asked/00/i",
    "decided": "/run/aisix/budgets/decided/00",
    "run-other": "/run/aisix/other",
    "prefix-itself": "/aisix",
    "beside-the-prefix": "/aisix-2/models/m",
    "other-ext": "/ext/other/ssls/s",
    "other-run": "/run/other/keyring",
    "foreign": "/registry/secrets/s",
}
"""One key of each sort that there is, and some that are none of ours."""

WRITES: Final[Mapping[tuple[str, str], frozenset[str]]] = {
    ("selfHosted", "proxy"): frozenset({"instance", "answer"}),
    ("selfHosted", "admin"): frozenset(
        {"resource", "ext", "keyring", "turn", "turn-ext", "history", "audit", "question"}
    ),
    ("managed", "proxy"): frozenset({"instance", "answer", "asked", "outbox"}),
    ("managed", "cloud-agent"): frozenset(
        {"resource", "ext", "keyring", "projection", "epoch", "leader", "outbox", "decided"}
    ),
}
READS: Final[Mapping[tuple[str, str], frozenset[str]]] = {
    ("selfHosted", "proxy"): frozenset({"resource", "ext", "question"}),
    ("selfHosted", "admin"): frozenset(
        {"resource", "ext", "keyring", "turn", "turn-ext", "history", "audit", "instance", "answer"}
    ),
    ("managed", "proxy"): frozenset({"resource", "ext", "question", "projection", "decided", "outbox"}),
    ("managed", "cloud-agent"): frozenset(
        {"resource", "ext", "keyring", "projection", "epoch", "leader", "outbox", "decided", "asked", "instance"}
    ),
}


def _forbidden(table: Mapping[tuple[str, str], frozenset[str]]) -> list[Any]:
    return [
        pytest.param(mode, service, key, id=f"{mode}-{service}-{key}")
        for (mode, service), keys in table.items()
        for key in KEYS
        if key not in keys
    ]


def _authorized(server: EtcdServer, mode: str, tls: Tls | None = None) -> None:
    """Users and roles, as the chart's job makes them."""
    etcd = EtcdApi([server.endpoint], tls, Job(lambda line: None, time.monotonic() + 30))
    set_up(etcd, ROOT, USERS, roles(Etcd(), managed=mode == "managed"), lambda line: None)
    server._root = f"{ROOT.user}:{ROOT.password}"


@pytest.fixture(scope="module")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, EtcdServer]]:
    """An etcd for each mode, with its users."""
    with (
        EtcdServer(tmp_path_factory.mktemp("self-hosted"), arguments=_CHEAP) as one,
        EtcdServer(tmp_path_factory.mktemp("managed"), arguments=_CHEAP) as other,
    ):
        _authorized(one, "selfHosted")
        _authorized(other, "managed")
        yield {"selfHosted": one, "managed": other}


@asynccontextmanager
async def _as(server: EtcdServer, who: Credential) -> AsyncIterator[EtcdClient]:
    options = EtcdOptions(endpoints=(server.endpoint,), user=who.user, password=Secret(who.password))
    async with EtcdClient(options) as client:
        yield client


@pytest.mark.parametrize(("mode", "service", "key"), _forbidden(WRITES))
async def test_may_not_write(clusters: Mapping[str, EtcdServer], mode: str, service: str, key: str) -> None:
    async with _as(clusters[mode], USERS[service]) as client:
        with pytest.raises(StoreDenied):
            await client.put(KEYS[key], b"{}")
        with pytest.raises(StoreDenied):
            await client.delete(KEYS[key])
        with pytest.raises(StoreDenied):
            await client.txn((), [Put(KEYS[key], b"{}")])
        with pytest.raises(StoreDenied):
            await client.txn((), [Delete(KEYS[key])])


@pytest.mark.parametrize(("mode", "service", "key"), _forbidden(READS))
async def test_may_not_read(clusters: Mapping[str, EtcdServer], mode: str, service: str, key: str) -> None:
    async with _as(clusters[mode], USERS[service]) as client:
        with pytest.raises(StoreDenied):
            await client.get(KEYS[key])


@pytest.mark.parametrize(("mode", "service"), WRITES)
async def test_may_do_what_is_its_own(clusters: Mapping[str, EtcdServer], mode: str, service: str) -> None:
    async with _as(clusters[mode], USERS[service]) as client:
        for key in WRITES[mode, service]:
            await client.put(KEYS[key], b"{}")
        for key in READS[mode, service]:
            await client.get(KEYS[key])
        for key in WRITES[mode, service]:
            await client.delete(KEYS[key])


@pytest.mark.parametrize(("mode", "service"), WRITES)
@pytest.mark.parametrize("prefix", ["/", "/aisix", "/run/aisix/", "/run/aisix/budgets/", "\0"])
async def test_may_not_read_or_delete_across_roots(
    clusters: Mapping[str, EtcdServer], mode: str, service: str, prefix: str
) -> None:
    async with _as(clusters[mode], USERS[service]) as client:
        with pytest.raises(StoreDenied):
            await client.range(prefix)
        with pytest.raises(StoreDenied):
            await client.delete(prefix, prefix=True)


@pytest.mark.parametrize(("mode", "service"), WRITES)
def test_may_not_manage_users_or_take_snapshots(clusters: Mapping[str, EtcdServer], mode: str, service: str) -> None:
    etcd = EtcdApi([clusters[mode].endpoint], None, Job(lambda line: None, time.monotonic() + 30))
    assert etcd.login(USERS[service].user, USERS[service].password)
    permission = {"permType": "READWRITE", "key": "AA==", "range_end": "AA=="}
    for path, document in (
        ("/v3/auth/disable", {}),
        ("/v3/auth/user/list", {}),
        ("/v3/auth/user/grant", {"user": service, "role": "root"}),
        ("/v3/auth/user/changepw", {"name": "root", "password": "x"}),
        ("/v3/auth/role/grant", {"name": service, "perm": permission}),
        ("/v3/maintenance/defragment", {}),
    ):
        with pytest.raises(Refused, match="permission denied"):
            etcd.call(path, document)
    with pytest.raises(Refused, match="permission denied"):
        list(etcd.pieces("/v3/maintenance/snapshot", {}, etcd.endpoints[0]))


@pytest.mark.parametrize(("mode", "absent"), [("selfHosted", "cloud-agent"), ("managed", "admin")])
async def test_who_does_not_run_has_no_user(clusters: Mapping[str, EtcdServer], mode: str, absent: str) -> None:
    async with _as(clusters[mode], USERS[absent]) as client:
        with pytest.raises(StoreDenied):
            await client.get(KEYS["resource"])


async def test_nobody_without_a_password(clusters: Mapping[str, EtcdServer]) -> None:
    for server in clusters.values():
        async with EtcdClient(EtcdOptions(endpoints=(server.endpoint,))) as client:
            with pytest.raises(StoreDenied):
                await client.get(KEYS["resource"])


async def test_a_proxy_does_not_end_the_lease_of_the_agent(clusters: Mapping[str, EtcdServer]) -> None:
    server = clusters["managed"]
    async with _as(server, USERS["cloud-agent"]) as agent, _as(server, USERS["proxy"]) as proxy:
        lease = await agent.grant(60)
        await agent.put(KEYS["leader"], b"{}", lease=lease)
        with pytest.raises(StoreError):
            await proxy.revoke(lease)
        with pytest.raises(StoreError):
            await proxy.put(KEYS["instance"], b"{}", lease=lease)
        assert await agent.time_to_live(lease) > 0


async def test_authentication_that_comes_under_a_running_client(tmp_path: Path) -> None:
    """As the chart installs it: services run with passwords and certificates before there are users."""
    made = certificates(tmp_path / "tls")
    with EtcdServer(tmp_path / "etcd", certificates=made, client_auth=True) as server:
        ca, certificate, key = (path.read_bytes() for path in (made.ca, made.client_cert, made.client_key))
        tls = TlsMaterial(ca=ca, certificate=certificate, key=key)
        user = USERS["admin"]
        options = EtcdOptions(endpoints=(server.endpoint,), tls=tls, user=user.user, password=Secret(user.password))
        async with EtcdClient(options) as client:
            await client.put(KEYS["resource"], b"{}")

            files = Tls(made.ca, made.client_cert, made.client_key)
            await asyncio.to_thread(_authorized, server, "selfHosted", files)

            async def again() -> bool:
                try:
                    await client.put(KEYS["resource"], b"{}")
                except StoreError:
                    return False
                return True

            await until(again, 10)
            with pytest.raises(StoreDenied):
                await client.put(KEYS["projection"], b"{}")


@dataclass(frozen=True)
class _SelfHosted:
    both: Gateway
    """The admin of one process and the proxy of the other."""
    logs: Sequence[Path]
    server: EtcdServer


@asynccontextmanager
async def _self_hosted(folder: Path) -> AsyncIterator[_SelfHosted]:
    """Proxy and admin, each with a configuration and a user of its own."""
    with EtcdServer(folder / "etcd") as server:
        _authorized(server, "selfHosted")
        (folder / "k1").touch(0o600)
        (folder / "k1").write_text(base64.b64encode(bytes(range(32))).decode())
        async with AsyncExitStack() as stack:
            started = {}
            for service, module in (("proxy", "aisix_proxy"), ("admin", "aisix_admin")):
                more = {
                    "etcd": {"user": service, "password_env": "ETCD_PASSWORD"},
                    "secrets": {"keyring": [{"id": "k1", "file": str(folder / "k1")}]},
                }
                environ = {"ETCD_PASSWORD": USERS[service].password, "AISIX_SECRET_PROVIDER": "sk-provider"}
                started[service] = await stack.enter_async_context(
                    running(folder / service, server.endpoint, "/aisix", more=more, module=module, environ=environ)
                )
            proxy, admin = started["proxy"], started["admin"]
            both = replace(proxy, ports=(proxy.ports[0], admin.ports[1], proxy.ports[2]), http=admin.http)
            yield _SelfHosted(both, (proxy.log, admin.log), server)


async def test_self_hosted_works_with_its_roles(tmp_path: Path) -> None:
    async with providers.running() as provider, _self_hosted(tmp_path) as gateway:
        both = gateway.both
        await both.serve(provider.base)
        model = both.ids["model"]
        await both.call("PATCH", f"models/{model}", {"timeout": 5000})
        history = await both.call("GET", f"models/{model}/history")
        assert [each["action"] for each in history["versions"]] == ["patched", "created"]
        auth = {"method": "token", "token": "canary"}
        vault = {"manager": "vault", "name": "main", "uri": "http://127.0.0.1:1", "auth": auth}
        made = await both.call("POST", "secret_providers", vault)
        (asked,) = (await both.call("POST", f"secret_providers/{made['id']}/test", {"path": "a/b"}))["instances"]
        assert "connection refused" in asked["reason"], "the proxy was asked through etcd, and answered"
        assert len(await both.call("GET", "instances")) == 1, "the proxy has its row, and the admin reads it"
        assert len((await both.call("GET", "audit"))["items"]) == 5
        caller = both.ids["api_key"]
        await both.call("POST", f"api_keys/{caller}/rotate", {})
        await both.call("DELETE", f"api_keys/{caller}")
        await both.call("POST", f"api_keys/{caller}/restore", {})
        assert await _denials(gateway.server) == 0
        for log in gateway.logs:
            assert _refusals(log.read_text()) == []


async def _denials(server: EtcdServer) -> int:
    """How many calls etcd has denied, as it counts them itself: some are nobody's trouble and in no log."""
    async with aiohttp.ClientSession() as http, http.get(f"{server.endpoint}/metrics") as response:
        text = await response.text()
    lines = [line for line in text.splitlines() if line.startswith("grpc_server_handled_total{")]
    assert lines
    return sum(int(float(line.rpartition(" ")[2])) for line in lines if 'grpc_code="PermissionDenied"' in line)


def _refusals(log: str) -> list[str]:
    """Lines that tell of something that etcd did not allow."""
    return [line for line in log.splitlines() if "refused us" in line or "permission denied" in line]


async def test_managed_works_with_its_roles(tmp_path: Path) -> None:
    async with providers.running() as provider, aiohttp.ClientSession() as http:
        cloud = CloudProcess(tmp_path / "cloud", http)
        try:
            await cloud.start()
            for kind, rows in demo_rows(provider.base).items():
                for row_id, document in rows.items():
                    await cloud.put(kind, row_id, document)
            link = {
                "cp_base_url": cloud.described["url"],
                "bootstrap": {
                    "token_file": cloud.described["environments"][0]["token_file"],
                    "ca_pin": cloud.described["ca_pin"],
                },
                "usage": {"flush_secs": 1},
            }
            async with managed(tmp_path / "gateway", link, agents=2) as gateway:
                await _managed_life(cloud, gateway)
                assert await _denials(gateway.etcd) == 0
                for program in gateway.programs:
                    program.stop()
                    assert _refusals(program.output()) == []
        finally:
            cloud.kill()


async def _managed_life(cloud: CloudProcess, gateway: Managed) -> None:
    for service, programs in (("proxy", gateway.proxies), ("cloud-agent", gateway.agents)):
        for program in programs:
            gateway.environ(
                program,
                {
                    "AISIX_ETCD__USER": service,
                    "AISIX_ETCD__PASSWORD_ENV": "ETCD_PASSWORD",
                    "ETCD_PASSWORD": USERS[service].password,
                },
            )
            program.start()
    await gateway.serves()
    before = len(await cloud.events())
    await asyncio.to_thread(_authorized, gateway.etcd, "managed")  # under running services, as the chart's job does
    await cloud.put("models", "m-late", {**demo_rows("")["models"]["m-demo"], "display_name": "late"})
    await gateway.serves(model="late")

    async def told() -> bool:
        return len(await cloud.events()) > before

    async def beats() -> bool:
        return any(beat["document"]["applied_revision"] > 0 for beat in (await cloud.state())["heartbeats"])

    await until(told, 20)
    await until(beats, 20)

    async def emptied() -> bool:
        return "/run/aisix/outbox/" not in gateway.etcd.ctl("get", "/run/aisix/", "--prefix", "--keys-only")

    await until(emptied, 20)
    rows = await asyncio.to_thread(gateway.etcd.ctl, "get", "/run/aisix/", "--prefix", "--keys-only")
    for key in ("projection", "agent/epoch", "agent/leader", "instances/", "budgets/asked/", "budgets/decided/"):
        assert f"/run/aisix/{key}" in rows, rows
