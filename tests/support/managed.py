"""A managed gateway as its processes: a local etcd, proxies and cloud agents, each to be killed, stopped and started.

async with managed(folder, {"cp_base_url": c.url, "bootstrap": {...}}) as gateway:   # etcd runs, nothing else yet
    gateway.agents[0].start(); gateway.proxies[0].start()
    await gateway.proxies[0].ready()             # answers /readyz
    gateway.proxies[0].kill()                    # SIGKILL; .pause() / .resume(): SIGSTOP / SIGCONT; .stop(): SIGTERM
    gateway.proxies[0].url / .metrics            # also of agents (.metrics alone)
    gateway.etcd.restart()

A process keeps its ports, state and log over its lives. All of it lies under `folder`; each proxy and each agent has a
folder of its own, as pods have volumes of their own.
"""

import asyncio
import base64
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

from tests.support.etcd import EtcdServer, free_port
from tests.support.gateway import until

START_SECONDS: Final = 20.0


class Program:
    """One process of a gateway over its lives."""

    def __init__(
        self, module: str, folder: Path, environ: Mapping[str, str], config: Path, http: aiohttp.ClientSession
    ):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.log = folder / "log"
        self._http = http
        self._ports = (free_port(), free_port())
        self._command = [sys.executable, "-m", module, "--config", str(config)]
        state = {
            "AISIX_PROXY__ADDR": f"127.0.0.1:{self._ports[0]}",
            "AISIX_OBSERVABILITY__METRICS__PROMETHEUS__ADDR": f"127.0.0.1:{self._ports[1]}",
            "AISIX_MANAGED__METRICS_ADDR": f"127.0.0.1:{self._ports[1]}",
            "AISIX_MANAGED__SNAPSHOT_CACHE_PATH": str(folder / "snapshot.cache"),
            "AISIX_MANAGED__USAGE__FOLDER": str(folder / "usage"),
            "AISIX_MANAGED__MTLS_DIR": str(folder / "mtls"),
            "AISIX_MANAGED__DP_ID_FILE": str(folder / "dp_id"),
        }
        kept = {name: text for name, text in os.environ.items() if not name.startswith("AISIX_")}
        self.environ = {**kept, **state, **environ}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The public listener, of a proxy."""
        return f"http://127.0.0.1:{self._ports[0]}"

    @property
    def metrics(self) -> str:
        """The listener of metrics and status."""
        return f"http://127.0.0.1:{self._ports[1]}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, whatever became of its last life."""
        assert not self.running
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self.environ
            )

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._end(signal.SIGKILL, 10)

    def stop(self) -> None:
        """SIGTERM, and wait until it has ended by itself."""
        self._end(signal.SIGTERM, 20)

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    async def ready(self, seconds: float = START_SECONDS) -> None:
        """Wait until a proxy answers /readyz with 200."""
        await self._answers(f"{self.url}/readyz", seconds)

    async def up(self, seconds: float = START_SECONDS) -> None:
        """Wait until the metrics listener answers."""
        await self._answers(f"{self.metrics}/metrics", seconds)

    async def status(self) -> Any:
        """`/status/cloud` of an agent."""
        async with self._http.get(f"{self.metrics}/status/cloud") as response:
            return await response.json()

    async def page(self, path: str = "/metrics") -> str:
        """A page of the metrics listener."""
        async with self._http.get(self.metrics + path) as response:
            return await response.text()

    def output(self) -> str:
        """All it has printed."""
        return self.log.read_text() if self.log.exists() else ""

    async def _answers(self, url: str, seconds: float) -> None:
        async def answers() -> bool:
            assert self.running, f"it has ended:\n{self.output()[-3000:]}"
            async with self._http.get(url) as response:
                return response.status == 200

        await until(answers, seconds)

    def _end(self, number: signal.Signals, seconds: float) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(number)
        self._process.wait(seconds)


class Managed:
    """The processes of one gateway."""

    def __init__(
        self, folder: Path, etcd: EtcdServer, http: aiohttp.ClientSession, config: Path, counts: tuple[int, int]
    ) -> None:
        proxies, agents = counts
        self.folder = folder
        self.etcd = etcd
        self.http = http
        self.config = config
        self.proxies = [self._program("aisix_proxy", f"proxy-{n}") for n in range(proxies)]
        self.agents = [self._program("aisix_cloud_agent", f"agent-{n}") for n in range(agents)]

    @property
    def programs(self) -> Sequence[Program]:
        return [*self.proxies, *self.agents]

    def environ(self, program: Program, more: Mapping[str, str]) -> None:
        """Give a program further environment variables, from its next start on."""
        program.environ.update(more)

    async def chat(
        self,
        content: str,
        *,
        proxy: int = 0,
        model: str = "demo-model",
        key: str = "sk-managed",
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> tuple[int, Any]:
        """One chat request: status and parsed body."""
        body = {"model": model, "messages": [{"role": "user", "content": content}], **more}
        url = f"{self.proxies[proxy].url}/v1/chat/completions"
        sent = {"Authorization": f"Bearer {key}", **(headers or {})}
        async with self.http.post(url, json=body, headers=sent) as response:
            return response.status, await response.json()

    async def serves(self, *, proxy: int = 0, model: str = "demo-model", seconds: float = START_SECONDS) -> None:
        """Wait until a proxy answers a chat request for `model` with 200."""

        async def served() -> bool:
            return (await self.chat("ready?", proxy=proxy, model=model))[0] == 200

        await until(served, seconds)

    def _program(self, module: str, name: str) -> Program:
        return Program(module, self.folder / name, {}, self.config, self.http)


def write_config(folder: Path, endpoint: str, link: Mapping[str, Any], more: Mapping[str, Any]) -> Path:
    """The config.yaml that all processes share."""
    folder.mkdir(parents=True, exist_ok=True)
    key = folder / "keyring.key"
    if not key.exists():
        key.touch(0o600)
        key.write_text(base64.b64encode(secrets.token_bytes(32)).decode())
    config: dict[str, Any] = {
        "etcd": {"endpoints": [endpoint]},
        "proxy": {"addr": "127.0.0.1:0"},
        "observability": {"log_format": "json"},
        "managed": {"enabled": True, "heartbeat_interval_secs": 5, **link},
        "secrets": {"keyring": [{"id": "k1", "file": str(key)}]},
        "shutdown": {"min_drain_secs": 0},
    }
    for section, values in more.items():
        config[section] = {**config.get(section, {}), **values}
    path = folder / "config.yaml"
    path.write_text(json.dumps(config))
    return path


@asynccontextmanager
async def managed(
    folder: Path,
    link: Mapping[str, Any],
    *,
    proxies: int = 1,
    agents: int = 1,
    more: Mapping[str, Any] | None = None,
) -> AsyncIterator[Managed]:
    """The processes of a gateway, of which only etcd is started. `link`: what is set under `managed`."""
    folder.mkdir(parents=True, exist_ok=True)
    with EtcdServer(folder / "etcd") as etcd:
        config = write_config(folder, etcd.endpoint, link, more or {})
        timeout = aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as http:
            gateway = Managed(folder, etcd, http, config, (proxies, agents))
            try:
                yield gateway
            finally:
                for program in gateway.programs:
                    await asyncio.to_thread(program.kill)


def demo_rows(provider_base: str, key: str = "sk-managed") -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """What the Cloud holds for a demo, by kind and id: a provider key, `demo-model` and a caller key for all models."""
    from aisix_common.resources.api_keys import hash_key

    return {
        "provider_keys": {
            "pk-demo": {"display_name": "demo", "secret": "sk-provider-canary-7171", "api_base": provider_base}
        },
        "models": {
            "m-demo": {
                "display_name": "demo-model",
                "provider": "openai",
                "model_name": "gpt-4o",
                "provider_key_id": "pk-demo",
            }
        },
        "api_keys": {"ak-demo": {"key_hash": hash_key(key), "allowed_models": ["*"]}},
    }
