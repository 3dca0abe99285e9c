"""The program: what it says when it cannot start, and that it ends well when told to."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aisix_common.version import VERSION
from aisix_proxy.__main__ import main

from tests.support.etcd import EtcdServer, free_port


def test_a_configuration_that_cannot_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("proxy: {addr: nonsense}\n")
    assert main(["--config", str(config)]) == 1
    assert "proxy.addr" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"aisix-proxy {VERSION}\n"


@pytest.mark.parametrize("workers", [1, 2])
def test_its_life(workers: int, etcd: EtcdServer, etcd_prefix: str, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        f'etcd: {{endpoints: ["{etcd.endpoint}"], prefix: "{etcd_prefix}"}}\n'
        f'proxy: {{addr: "127.0.0.1:{free_port()}", workers: {workers}}}\n'
        f'observability: {{metrics: {{prometheus: {{addr: "127.0.0.1:{free_port()}"}}}}}}\n'
        f'managed: {{snapshot_cache_path: "{tmp_path / "cache"}"}}\n'
        "shutdown: {min_drain_secs: 0}\nadmin: {enabled: false}\n"
    )
    with subprocess.Popen(
        [sys.executable, "-m", "aisix_proxy", "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ},
    ) as process:
        assert process.stdout is not None
        try:
            seen = b""
            while seen.count(b"configuration read") < workers:
                line = process.stdout.readline()
                assert line, seen.decode()
                seen += line
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        finally:
            process.kill()
