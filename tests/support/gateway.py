"""The gateway as operators run it: `aisix --config FILE` against a real etcd, in processes of its own.

async with running(folder, etcd.endpoint, prefix) as gateway:
    await gateway.serve(provider.base)           # a provider key, the model "demo-model" and a caller key
    gateway.proxy / .admin / .metrics            # URLs
    await gateway.call("POST", "models", {...})  # the admin API; returns the entry
    await gateway.text("/metrics")               # the metrics listener
    gateway.log                                  # path of its output
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp

from tests.support.etcd import free_port

ADMIN_KEY: Final = "admin-key-of-the-tests"
CALLER_KEY: Final = "sk-caller-of-the-tests"
PROVIDER_SECRET: Final = "sk-provider-canary-5151"
START_SECONDS: Final = 20.0


@dataclass
class Gateway:
    """A running gateway. URLs have no trailing slash."""

    process: "subprocess.Popen[bytes]"
    http: aiohttp.ClientSession
    ports: tuple[int, int, int]
    folder: Path
    ids: dict[str, str] = field(default_factory=dict)

    @property
    def proxy(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    @property
    def admin(self) -> str:
        return f"http://127.0.0.1:{self.ports[1]}"

    @property
    def metrics(self) -> str:
        return f"http://127.0.0.1:{self.ports[2]}"

    @property
    def log(self) -> Path:
        return self.folder / "aisix.log"

    async def call(self, method: str, path: str, document: Any = None, *, expect: int = 200) -> Any:
        """One call of the admin API; asserts the status."""
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        async with self.http.request(
            method, f"{self.admin}/admin/v1/{path}", json=document, headers=headers
        ) as response:
            body = await response.json()
            assert response.status == expect, body
            return body

    async def text(self, path: str) -> str:
        """A page of the metrics listener."""
        async with self.http.get(self.metrics + path) as response:
            return await response.text()

    async def chat(
        self, content: str, *, model: str = "demo-model", key: str = CALLER_KEY, **more: Any
    ) -> tuple[int, Any]:
        """One chat request without an SDK: status and parsed body."""
        body = {"model": model, "messages": [{"role": "user", "content": content}], **more}
        headers = {"Authorization": f"Bearer {key}"}
        async with self.http.post(f"{self.proxy}/v1/chat/completions", json=body, headers=headers) as response:
            return response.status, await response.json()

    async def serve(self, provider_base: str) -> None:
        """A provider key, the model `demo-model` and a caller key for it; returns when the proxy serves them."""
        key = {"display_name": "demo", "provider": "openai", "api_key": PROVIDER_SECRET, "api_base": provider_base}
        self.ids["provider_key"] = (await self.call("POST", "provider_keys", key))["id"]
        model = {
            "display_name": "demo-model",
            "provider": "openai",
            "model_name": "gpt-4o",
            "provider_key_id": self.ids["provider_key"],
        }
        self.ids["model"] = (await self.call("POST", "models", model))["id"]
        caller = {"key": CALLER_KEY, "allowed_models": ["demo-model"], "display_name": "tests"}
        self.ids["api_key"] = (await self.call("POST", "api_keys", caller))["id"]

        async def served() -> bool:
            return (await self.chat("ready?"))[0] == 200

        await until(served)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def wait(self, seconds: float = 20) -> int:
        """The exit code, at most `seconds` from now."""
        return await asyncio.to_thread(self.process.wait, seconds)


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> None:
    """Await a condition of the outside world; asserts that it came true in time."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        try:
            if await condition():
                return
        except (aiohttp.ClientError, OSError):
            pass  # not up yet, or just going down
        assert asyncio.get_running_loop().time() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.02)


def write_config(
    folder: Path, endpoint: str, prefix: str, more: Mapping[str, Any]
) -> tuple[Path, tuple[int, int, int]]:
    """A config.yaml with ports of its own; `more` is merged over it section by section."""
    ports = (free_port(), free_port(), free_port())
    config: dict[str, Any] = {
        "etcd": {"endpoints": [endpoint], "prefix": prefix},
        "proxy": {"addr": f"127.0.0.1:{ports[0]}"},
        "admin": {"addr": f"127.0.0.1:{ports[1]}", "admin_keys": [ADMIN_KEY]},
        "observability": {"log_format": "json", "metrics": {"prometheus": {"addr": f"127.0.0.1:{ports[2]}"}}},
        "managed": {"snapshot_cache_path": str(folder / "snapshot.cache")},
        "secrets": {"local_key_file": str(folder / "keyring.key")},
        "shutdown": {"min_drain_secs": 0},
    }
    for section, values in more.items():
        config[section] = {**config.get(section, {}), **values}
    path = folder / "config.yaml"
    path.write_text(json.dumps(config))
    return path, ports


def start(
    folder: Path, config: Path, module: str = "aisix_common.cli", environ: Mapping[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    """Start `aisix` (or one service by its module) on `config`; `environ` comes on top of the environment."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AISIX_")} | dict(environ or {})
    with (folder / "aisix.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", module, "--config", str(config)],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
        )


async def aisix(*arguments: str) -> tuple[int, str, str]:
    """Run an `aisix` command to its end: exit code, stdout, stderr."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AISIX_")}
    command = [sys.executable, "-m", "aisix_common.cli", *arguments]
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    return done.returncode, done.stdout, done.stderr


@asynccontextmanager
async def running(
    folder: Path,
    endpoint: str,
    prefix: str = "/aisix",
    *,
    more: Mapping[str, Any] | None = None,
    module: str = "aisix_common.cli",
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[Gateway]:
    """A gateway that answers /readyz on both listeners (on its own when `module` is one service)."""
    folder.mkdir(parents=True, exist_ok=True)
    config, ports = write_config(folder, endpoint, prefix, more or {})
    process = start(folder, config, module, environ)
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as http:
        gateway = Gateway(process, http, ports, folder)

        async def ready() -> bool:
            assert process.poll() is None, (
                f"the gateway ended with {process.returncode}:\n{gateway.log.read_text()[-3000:]}"
            )
            own = {"aisix_proxy": [gateway.proxy], "aisix_admin": [gateway.admin]}
            for url in own.get(module, [gateway.proxy, gateway.admin]):
                async with http.get(f"{url}/readyz") as response:
                    if response.status != 200:
                        return False
            return True

        try:
            await until(ready, START_SECONDS)
            yield gateway
        finally:
            if process.poll() is None:
                process.terminate()
            try:
                await asyncio.to_thread(process.wait, 20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
