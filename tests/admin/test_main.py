"""The admin as operators run it: a process, a configuration file, TLS, metrics, signals."""

import asyncio
import json
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from aisix_admin.__main__ import main
from aisix_common.secrets.envelope import new_key
from aisix_common.store.client import EtcdClient, EtcdOptions

from tests.support.etcd import EtcdServer, free_port, make_certificates

KEY = "process-admin-key-canary-1f"


def write_config(folder: Path, **admin: Any) -> Path:
    path = folder / "config.json"
    document = {
        "proxy": {"addr": "127.0.0.1:0"},
        "etcd": admin.pop("etcd"),
        "secrets": admin.pop("secrets", {}),
        "admin": {"addr": "127.0.0.1:0", "admin_keys": [KEY], "metrics_addr": "", **admin},
        "shutdown": {"min_drain_secs": 0},
        "observability": {"log_format": "json"},
    }
    path.write_text(json.dumps(document))
    return path


class Process:
    def __init__(self, config: Path, log: Path) -> None:
        self.log = log
        with log.open("wb") as out:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "aisix_admin", "--config", str(config)], stdout=out, stderr=out
            )

    def url(self, listener: str) -> str:
        """Where a listener is, once its log says so."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.popen.poll() is None:
            for line in self.log.read_text().splitlines():
                if f'"listener":"{listener}"' in line:
                    return str(json.loads(line)["url"])
            time.sleep(0.02)
        raise AssertionError(self.log.read_text())


@contextmanager
def process(config: Path) -> Iterator[Process]:
    running = Process(config, config.with_suffix(".log"))
    try:
        yield running
    finally:
        running.popen.kill()
        running.popen.wait(10)


async def test_a_life(etcd: EtcdServer, etcd_prefix: str, tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "tls")
    key_file = tmp_path / "keyring.key"
    key_file.write_text(new_key())
    config = write_config(
        tmp_path,
        secrets={"keyring": [{"id": "k1", "file": str(key_file)}]},
        etcd={"endpoints": [etcd.endpoint], "prefix": etcd_prefix},
        tls={"cert_file": str(certificates.server_cert), "key_file": str(certificates.server_key)},
        metrics_addr="127.0.0.1:0",
    )
    trust = ssl.create_default_context(cafile=str(certificates.ca))
    with process(config) as running:
        admin = await asyncio.to_thread(running.url, "admin")
        metrics = await asyncio.to_thread(running.url, "metrics")
        assert admin.startswith("https://")
        headers = {"Authorization": f"Bearer {KEY}"}
        async with aiohttp.ClientSession() as session, asyncio.timeout(20):
            while (await session.get(f"{admin}/readyz", ssl=trust)).status != 200:
                await asyncio.sleep(0.02)
            body = {"display_name": "p", "api_key": "sk-canary-process"}
            async with session.post(f"{admin}/admin/v1/provider_keys", json=body, headers=headers, ssl=trust) as answer:
                assert answer.status == 200, await answer.text()
            async with session.get(f"{metrics}/metrics") as answer:
                text = await answer.text()
                assert 'aisix_admin_store_writes_total{outcome="committed"} 1.0' in text
                assert "process_resident_memory_bytes" in text
        async with EtcdClient(EtcdOptions(endpoints=(etcd.endpoint,))) as client:
            (row,) = (await client.range(f"{etcd_prefix}/provider_keys/")).rows
            assert b'"api_key":"enc:v1:k1:' in row.value and b"canary" not in row.value
        running.popen.terminate()
        assert await asyncio.to_thread(running.popen.wait, 10) == 0
        log = running.log.read_text()
        assert '"resource written"' in log
        assert "canary" not in log + text
        assert all(json.loads(line) for line in log.splitlines())


async def test_it_starts_while_etcd_is_away_and_says_so(tmp_path: Path) -> None:
    config = write_config(tmp_path, etcd={"endpoints": [f"http://127.0.0.1:{free_port()}"], "request_timeout_ms": 300})
    with process(config) as running:
        admin = await asyncio.to_thread(running.url, "admin")
        async with aiohttp.ClientSession() as session, asyncio.timeout(20):
            assert (await session.get(f"{admin}/livez")).status == 200
            assert (await session.get(f"{admin}/readyz")).status == 503
            headers = {"x-api-key": KEY}
            async with session.get(f"{admin}/admin/v1/models", headers=headers) as answer:
                assert answer.status == 503
                assert "etcd" in (await answer.json())["error_msg"]
        running.popen.terminate()
        assert await asyncio.to_thread(running.popen.wait, 10) == 0


def test_what_keeps_it_from_starting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path, etcd={"endpoints": ["http://127.0.0.1:1"]}, enabled=False)
    assert main(["--config", str(config)]) == 1
    complaint = capsys.readouterr().err
    assert complaint.startswith("Error: ") and "admin.enabled" in complaint


def test_a_keyring_that_cannot_be_read_keeps_it_from_starting(tmp_path: Path) -> None:
    missing = {"keyring": [{"id": "k1", "file": str(tmp_path / "missing.key")}]}
    config = write_config(tmp_path, etcd={"endpoints": ["http://127.0.0.1:1"]}, secrets=missing)
    with process(config) as running:
        assert running.popen.wait(20) == 1
        assert "secrets.keyring[0].file" in running.log.read_text()


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
