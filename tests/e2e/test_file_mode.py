"""A gateway that lives from a resources file: no etcd, SIGHUP for changes, and a bad file that changes nothing."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support import provider as providers
from tests.support.etcd import free_port
from tests.support.gateway import ADMIN_KEY, CALLER_KEY, PROVIDER_SECRET, Gateway, until

pytestmark = pytest.mark.e2e

TEXT = """\
_format_version: "1"
provider_keys:
- {{display_name: demo, provider: openai, api_key: "${{PROVIDER_KEY}}", api_base: "{base}"}}
models:
- {{display_name: demo-model, provider: openai, model_name: gpt-4o, provider_key: demo}}
api_keys:
- {{display_name: tests, key_env: CALLER_KEY, allowed_models: [{allowed}]}}
"""


class FileGateway(Gateway):
    """A gateway with the file it serves."""

    @property
    def resources(self) -> Path:
        return self.folder / "resources.yaml"

    async def status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(await self.text("/status/config"))
        return status

    async def answers(self, status: int) -> None:
        """Wait until a chat is answered with `status`, several times in a row: every worker has to say so."""

        async def all_answer() -> bool:
            return {(await self.chat("hello"))[0] for _ in range(8)} == {status}

        await until(all_answer)


def write(folder: Path, workers: int) -> tuple[Path, tuple[int, int, int]]:
    ports = (free_port(), free_port(), free_port())
    config = {
        "resources_file": str(folder / "resources.yaml"),
        "proxy": {"addr": f"127.0.0.1:{ports[0]}", "workers": workers},
        "admin": {"addr": f"127.0.0.1:{ports[1]}", "admin_keys": [ADMIN_KEY]},
        "observability": {"log_format": "json", "metrics": {"prometheus": {"addr": f"127.0.0.1:{ports[2]}"}}},
        "managed": {"snapshot_cache_path": str(folder / "snapshot.cache")},
        "shutdown": {"min_drain_secs": 0},
    }
    path = folder / "config.yaml"
    path.write_text(json.dumps(config))
    return path, ports


def start(folder: Path, config: Path) -> "subprocess.Popen[bytes]":
    kept = {name: text for name, text in os.environ.items() if not name.startswith("AISIX_")}
    with (folder / "aisix.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "aisix_common.cli", "--config", str(config)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**kept, "PROVIDER_KEY": PROVIDER_SECRET, "CALLER_KEY": CALLER_KEY},
        )


@asynccontextmanager
async def running(folder: Path, text: str, workers: int = 1) -> AsyncIterator[FileGateway]:
    (folder / "resources.yaml").write_text(text)
    config, ports = write(folder, workers)
    process = start(folder, config)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http:
        gateway = FileGateway(process, http, ports, folder)

        async def ready() -> bool:
            assert process.poll() is None, gateway.log.read_text()
            async with http.get(f"{gateway.proxy}/readyz") as proxy, http.get(f"{gateway.admin}/readyz") as admin:
                return (proxy.status, admin.status) == (200, 200)

        try:
            await until(ready, 20)
            yield gateway
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait, 20)


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("workers", [1, 2])
async def test_sighup(provider: providers.Provider, tmp_path: Path, workers: int) -> None:
    text = TEXT.format(base=provider.base, allowed="demo-model")
    async with running(tmp_path, text, workers) as gateway:
        assert (await gateway.chat("hello"))[0] == 200, "served from the first request on"

        async def synced() -> bool:
            return bool((await gateway.status())["state"] == "synced")

        await until(synced)  # also the workers that came up later
        source = (await gateway.status())["source"]
        assert source["type"] == "file"
        assert "connected" not in source
        assert [row["revision"] for row in await gateway.call("GET", "models")] == [1]
        health = await gateway.call("GET", "health")
        assert (health["status"], "config" in health) == ("ok", False), "a file does not grow old"
        refusal = await gateway.call("POST", "models", {"display_name": "x"}, expect=409)
        assert str(gateway.resources) in refusal["error_msg"]

        gateway.resources.write_text(TEXT.format(base=provider.base, allowed=""))
        gateway.signal(signal.SIGHUP)
        await gateway.answers(403)

        async def followed() -> bool:
            return [row["revision"] for row in await gateway.call("GET", "models")] == [2]

        await until(followed)

        gateway.resources.write_text(text + "- {display_name: sk-name, nonsense: sk-canary}\n")
        gateway.signal(signal.SIGHUP)

        async def refused() -> bool:
            return bool((await gateway.status())["state"] == "out_of_sync")

        await until(refused)
        await gateway.answers(403)
        (row,) = (await gateway.status())["rejected"]
        assert (row["resource_kind"], row["resource_id"]) == ("api_keys", "sk-name")
        assert "aisix_config_last_reload_successful 0" in await gateway.text("/metrics")

        gateway.resources.write_text(text)
        gateway.signal(signal.SIGHUP)
        await gateway.answers(200)
        page = await gateway.text("/metrics")
        assert "aisix_config_last_reload_successful 1" in page
        assert not [line for line in page.splitlines() if line.startswith("aisix_config_source_connected ")]

        async def refusal_is_logged() -> bool:  # by a thread of its own
            return "error(s):" in gateway.log.read_text()

        await until(refusal_is_logged)
        log = gateway.log.read_text()
        assert not any(secret in log for secret in (PROVIDER_SECRET, CALLER_KEY, "sk-canary"))
    assert gateway.process.returncode == 0
    assert not list(tmp_path.glob("snapshot.cache*")), "there is nothing to remember beside the file"


def test_no_start_with_a_bad_file(tmp_path: Path) -> None:
    (tmp_path / "resources.yaml").write_text("_format_version: 1\nmodels: [3]\n")
    process = start(tmp_path, write(tmp_path, 1)[0])
    assert process.wait(20) == 1
    said = (tmp_path / "aisix.log").read_text()
    assert (
        f"Error: resources file {tmp_path}/resources.yaml: 2 error(s):\n"
        '  - (file): field `_format_version`: must be text, not a number: put it into quotes: "1"\n'
        "  - models[0]: must be a mapping\n"
    ) in said
