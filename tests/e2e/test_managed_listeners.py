"""What a managed gateway does not listen on: the admin API and the playground."""

import asyncio
import os
import socket
from pathlib import Path

import aiohttp
import pytest

from tests.support import looking
from tests.support.etcd import EtcdServer, free_port
from tests.support.gateway import START_SECONDS, start, until, write_config

PATHS = (
    "/admin/v1/models",
    "/admin/docs",
    "/admin/openapi.json",
    "/aisix/admin/models",
    "/playground/chat/completions",
)

pytestmark = pytest.mark.slow  #


def listening(root: int) -> set[int]:
    """The ports that a process and all it started listen on."""
    pids = [root]
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            pids += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return {found.local for pid in pids for found in looking.sockets(pid) if found.listening}


async def test_neither_admin_nor_playground_is_bound(tmp_path: Path, etcd: EtcdServer) -> None:
    """Although the configuration gives the admin all it needs to bind."""
    agent, admin_metrics = free_port(), free_port()
    managed = {
        "enabled": True,
        "cp_base_url": "https://127.0.0.1:1",
        "metrics_addr": f"127.0.0.1:{agent}",
        "mtls_dir": str(tmp_path / "mtls"),
        "dp_id_file": str(tmp_path / "dp_id"),
        "usage": {"folder": str(tmp_path / "usage")},
    }
    playground = {"metrics_addr": f"127.0.0.1:{admin_metrics}", "playground_proxy_url": "http://127.0.0.1:1"}
    config, ports = write_config(
        tmp_path, etcd.endpoint, "/managed-listeners", {"managed": managed, "admin": {"enabled": True, **playground}}
    )
    proxy, admin, metrics = ports
    process = start(tmp_path, config)
    try:
        async with aiohttp.ClientSession() as http:

            async def status(method: str, port: int, path: str) -> int:
                async with http.request(method, f"http://127.0.0.1:{port}{path}") as response:
                    return response.status

            async def ready() -> bool:
                assert process.poll() is None, (tmp_path / "aisix.log").read_text()
                return await status("GET", proxy, "/readyz") == 200

            await until(ready, START_SECONDS)
            asked = [(method, port, path) for method in ("GET", "POST") for port in (proxy, metrics) for path in PATHS]
            assert {await status(*each) for each in asked} <= {404, 405}
            for port in (admin, admin_metrics):
                with socket.socket() as probe:
                    assert probe.connect_ex(("127.0.0.1", port)) != 0
            found = listening(process.pid)
            assert {proxy, metrics} <= found <= {proxy, metrics, agent}
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 20)
