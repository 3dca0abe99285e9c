"""What `helm test` runs, against real gateways: it passes where they work, says what is wrong where they do not, and
cleans up."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from tests.chaos.cloud_process import CloudProcess
from tests.deploy.rendering import RELEASE, Rendered, render
from tests.deploy.test_chart_network import MANAGED
from tests.deploy.tools import ROOT
from tests.support import gateway as gateways
from tests.support import provider as providers
from tests.support.etcd import EtcdServer, free_port
from tests.support.gateway import Gateway
from tests.support.managed import demo_rows, managed

SCRIPTS = ROOT / "deploy/helm/aisix/files/tests"
pytestmark = pytest.mark.slow
MODULE_LOOP = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory, etcd: EtcdServer) -> AsyncIterator[Gateway]:
    async with gateways.running(tmp_path_factory.mktemp("gateway"), etcd.endpoint, "/helm-test") as running:
        yield running


async def run(script: str, environ: Mapping[str, str]) -> tuple[int, str]:
    """A script as its pod runs it: exit code and what it says."""
    command = [sys.executable, "-B", str(SCRIPTS / script)]
    done = await asyncio.to_thread(
        subprocess.run, command, env=dict(environ), capture_output=True, text=True, timeout=50, check=False
    )
    return done.returncode, done.stdout + done.stderr


def place(gateway: Gateway, folder: Path, **more: str) -> dict[str, str]:
    key = folder / "admin-key"
    key.write_text(gateways.ADMIN_KEY + "\n")
    return {
        "PROXY_URL": gateway.proxy,
        "PROXY_METRICS_URL": f"{gateway.metrics}/metrics",
        "ADMIN_URL": gateway.admin,
        "ADMIN_KEY_FILE": str(key),
        "POD_IP": "127.0.0.1",
        "PROVIDER_PORT": "0",
        "PATIENCE": "10",
        **more,
    }


async def rows(gateway: Gateway) -> list[str]:
    kinds = ("provider_keys", "models", "api_keys")
    return [row["id"] for kind in kinds for row in await gateway.call("GET", kind)]


@MODULE_LOOP
async def test_a_gateway_that_works(gateway: Gateway, tmp_path: Path) -> None:
    code, said = await run("client.py", place(gateway, tmp_path))
    assert code == 0, said
    for step in ("a chat request is answered", "a stream is answered", "a key that nobody has is refused"):
        assert f"ok      {step}\n" in said
    assert "ok      the metrics count the requests\n" in said
    assert said.count("ok      deleted") == 3
    assert said.endswith("The gateway works.\n")
    assert gateways.ADMIN_KEY not in said
    assert "sk-" not in said
    assert await rows(gateway) == []


@MODULE_LOOP
async def test_it_can_be_run_again_and_beside_others(gateway: Gateway, tmp_path: Path) -> None:
    both = await asyncio.gather(*(run("client.py", place(gateway, tmp_path)) for _ in range(2)))
    assert [code for code, _ in both] == [0, 0], both
    assert await rows(gateway) == []


@MODULE_LOOP
async def test_an_admin_key_that_is_wrong(gateway: Gateway, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong-key"
    wrong.write_text("not-the-admin-key")
    code, said = await run("client.py", place(gateway, tmp_path, ADMIN_KEY_FILE=str(wrong)))
    assert code == 1
    assert "FAILED  the admin takes one of provider_keys: status 401" in said
    assert await rows(gateway) == []


@MODULE_LOOP
async def test_metrics_that_count_nothing(gateway: Gateway, tmp_path: Path) -> None:
    url = f"{gateway.metrics}/status/config"
    code, said = await run("client.py", place(gateway, tmp_path, PROXY_METRICS_URL=url, PATIENCE="1"))
    assert code == 1
    assert f"FAILED  the metrics count the requests: 0 answers are counted on {url}" in said
    assert said.count("ok      deleted") == 3
    assert await rows(gateway) == []


async def test_no_gateway_at_all(tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    environ = {"PROXY_URL": nobody, "PROXY_METRICS_URL": nobody, "PATIENCE": "0.5"}
    code, said = await run("client.py", environ)
    assert code == 1
    assert said.startswith("FAILED  the proxy is ready: ")
    assert "Traceback" not in said


async def test_a_managed_gateway(tmp_path: Path) -> None:
    async with providers.running() as provider, aiohttp.ClientSession() as http:
        cloud = CloudProcess(tmp_path / "cloud", http)
        try:
            await cloud.start()
            for kind, documents in demo_rows(provider.base).items():
                for row_id, document in documents.items():
                    await cloud.put(kind, row_id, document)
            link = {
                "cp_base_url": cloud.described["url"],
                "bootstrap": {
                    "token_file": cloud.described["environments"][0]["token_file"],
                    "ca_pin": cloud.described["ca_pin"],
                },
            }
            async with managed(tmp_path / "gateway", link) as gateway:
                for program in gateway.programs:
                    program.start()
                await gateway.serves()
                environ = {
                    "PROXY_URL": gateway.proxies[0].url,
                    "PROXY_METRICS_URL": f"{gateway.proxies[0].metrics}/metrics",
                    "AGENT_URL": gateway.agents[0].metrics,
                    "PATIENCE": "10",
                }
                code, said = await run("client.py", environ)
                assert code == 0, said
                assert "ok      an agent leads" in said
                gateway.agents[0].stop()
                code, said = await run("client.py", {**environ, "PATIENCE": "0.5"})
                assert code == 1
                assert "FAILED  an agent leads" in said
        finally:
            cloud.kill()


async def test_a_stranger() -> None:
    closed = f"admin=127.0.0.1:{free_port()}"
    code, said = await run("stranger.py", {"TARGETS": closed, "EXPECT_ENFORCED": "true"})
    assert (code, "None of them can be reached" in said) == (0, True), said
    with socket.create_server(("127.0.0.1", 0)) as server:
        targets = f"{closed} etcd=127.0.0.1:{server.getsockname()[1]}"
        code, said = await run("stranger.py", {"TARGETS": targets, "EXPECT_ENFORCED": "true"})
        assert code == 1
        assert "FAILED  etcd: reached" in said
        code, said = await run("stranger.py", {"TARGETS": targets, "EXPECT_ENFORCED": "false"})
        assert code == 0
        assert "not enforced here" in said


def environment(rendered: Rendered, pod: str) -> dict[str, str]:
    found = rendered.named("Pod", f"{RELEASE}-aisix-test-{pod}")
    assert found is not None
    [container] = found["spec"]["containers"]
    assert container["command"] == ["python", f"/opt/aisix-test/{pod}.py"]
    return {each["name"]: each.get("value", "") for each in container["env"]}


def test_the_pods_run_these_scripts_and_find_what_there_is() -> None:
    rendered = render()
    scripts = rendered.named("ConfigMap", f"{RELEASE}-aisix-test")
    assert scripts is not None
    for name in ("client.py", "provider.py", "stranger.py"):
        assert scripts["data"][name].rstrip() == (SCRIPTS / name).read_text().rstrip()
    services = {
        f"{s['metadata']['name']}.ai.svc:{p['port']}" for s in rendered.of("Service") for p in s["spec"]["ports"]
    }
    client, stranger = environment(rendered, "client"), environment(rendered, "stranger")
    for url in (client["PROXY_URL"], client["PROXY_METRICS_URL"], client["ADMIN_URL"]):
        assert url.split("/")[2] in services, url
    targets = dict(target.split("=") for target in stranger["TARGETS"].split())
    assert set(targets) == {"admin", "proxy-metrics", "etcd"}
    assert set(targets.values()) <= services
    assert stranger["EXPECT_ENFORCED"] == "false"
    assert environment(render({"tests": {"expectEnforced": True}}), "stranger")["EXPECT_ENFORCED"] == "true"


def test_the_pods_of_a_managed_gateway_know_no_admin() -> None:
    rendered = render(MANAGED)
    assert set(environment(rendered, "client")) == {"PROXY_URL", "PROXY_METRICS_URL", "AGENT_URL"}
    assert "admin=" not in environment(rendered, "stranger")["TARGETS"]


def test_no_pods_where_they_are_not_wanted() -> None:
    assert render({"tests": {"enabled": False}}).of("Pod") == []
