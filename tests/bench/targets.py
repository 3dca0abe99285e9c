"""The processes that a run measures: the bare relay, and our proxy with real etcd and everything switched on."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aisix_common.resources.api_keys import hash_key
from aisix_common.store.client import EtcdClient, EtcdOptions

from tests.support.etcd import EtcdServer

GATEWAY_CORE = 1
LOAD_CORE = 0
KEY = "sk-bench"


@dataclass(frozen=True)
class Target:
    """One measured process tree."""

    name: str
    port: int
    pid: int
    ready_seconds: float


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def spawn(
    core: int, log: Path, *arguments: str, environment: dict[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    """A Python process of ours on one core, its output in `log`."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("AISIX_")}
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**clean, **(environment or {})},
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )


def stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@asynccontextmanager
async def upstream(directory: Path) -> AsyncIterator[int]:
    """The upstream on the load's core; yields its port."""
    port = free_port()
    process = spawn(LOAD_CORE, directory / "upstream.log", "-m", "tests.bench.upstream", str(port))
    try:
        await _answers(port, process)
        yield port
    finally:
        stop(process)


@asynccontextmanager
async def bare_relay(directory: Path, upstream_port: int) -> AsyncIterator[Target]:
    port = free_port()
    start = asyncio.get_running_loop().time()
    process = spawn(GATEWAY_CORE, directory / "relay.log", "-m", "tests.bench.relay", str(port), str(upstream_port))
    try:
        await _answers(port, process)
        yield Target("bare aiohttp relay", port, process.pid, asyncio.get_running_loop().time() - start)
    finally:
        stop(process)


@asynccontextmanager
async def gateway(directory: Path, upstream_port: int) -> AsyncIterator[Target]:
    """Our proxy: keys, metrics, access log, usage, deadlines all on, 1,000 other keys present."""
    with EtcdServer(directory / "etcd") as etcd:
        async with EtcdClient(EtcdOptions(endpoints=(etcd.endpoint,))) as client:
            await _load_resources(client, upstream_port)
        config = directory / "config.yaml"
        port, metrics = free_port(), free_port()
        settings = {
            "etcd": {"endpoints": [etcd.endpoint]},
            "proxy": {"addr": f"127.0.0.1:{port}"},
            "admin": {"enabled": False},
            "observability": {"log_format": "json", "metrics": {"prometheus": {"addr": f"127.0.0.1:{metrics}"}}},
            "managed": {"snapshot_cache_path": str(directory / "snapshot.cache")},
            "shutdown": {"min_drain_secs": 0},
        }
        config.write_text(json.dumps(settings))
        start = asyncio.get_running_loop().time()
        process = spawn(GATEWAY_CORE, directory / "gateway.log", "-m", "aisix_proxy", "--config", str(config))
        try:
            await _answers(port, process, path="/readyz")
            yield Target("aisix proxy", port, process.pid, asyncio.get_running_loop().time() - start)
        finally:
            stop(process)


async def _load_resources(client: EtcdClient, upstream_port: int) -> None:
    provider_key = {
        "display_name": "bench",
        "provider": "openai",
        "adapter": "openai",
        "api_key": "sk-upstream",
        "api_base": f"http://127.0.0.1:{upstream_port}/v1",
    }
    model = {
        "display_name": "bench-model",
        "provider": "openai",
        "model_name": "mock-model",
        "provider_key_id": "pk-1",
    }
    await client.put("/aisix/provider_keys/pk-1", json.dumps(provider_key).encode())
    await client.put("/aisix/models/m-1", json.dumps(model).encode())
    for number in range(1000):
        key = KEY if number == 0 else f"sk-other-{number}"
        document = {"key_hash": hash_key(key), "allowed_models": ["bench-model"]}
        await client.put(f"/aisix/api_keys/k-{number}", json.dumps(document).encode())


async def _answers(port: int, process: "subprocess.Popen[bytes]", path: str = "/") -> None:
    """Wait until the port answers: 200 where a path is given, anything otherwise."""

    def probe() -> bool:
        try:
            if path == "/":
                socket.create_connection(("127.0.0.1", port), 1).close()
                return True
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=1) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    for _ in range(1500):
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        if await asyncio.to_thread(probe):
            return
        await asyncio.sleep(0.02)
    raise RuntimeError(f"nothing answered on port {port}")
