"""The program: what it says before it runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aisix_common.version import VERSION

MANAGED = {"enabled": True, "cp_base_url": "https://127.0.0.1:1"}


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "aisix_cloud_agent", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize(
    ("managed", "said"),
    [
        ({"enabled": False}, "managed.enabled: is false"),
        (MANAGED, "bootstrap.token"),
        ({**MANAGED, "kubernetes_lease": "aisix"}, "for a pod in Kubernetes"),
        ({**MANAGED, "cp_cert_file": "x.crt"}, "cp_key_file"),
    ],
)
def test_what_cannot_run_says_why(managed: dict[str, object], said: str, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    where = {"mtls_dir": str(tmp_path / "mtls"), "dp_id_file": str(tmp_path / "dp_id"), "metrics_addr": ""}
    admin = {"enabled": False}
    etcd, proxy = {"endpoints": ["127.0.0.1:1"]}, {"addr": "127.0.0.1:0"}
    document = {"etcd": etcd, "proxy": proxy, "admin": admin, "managed": {**managed, **where}}
    config.write_text(json.dumps(document))
    done = run("--config", str(config))
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout.strip()) == (0, f"aisix-cloud-agent {VERSION}")
