"""The program: what it says before it runs."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aisix_cloud_agent.__main__ import main
from aisix_common.version import VERSION

MANAGED = {"enabled": True, "cp_base_url": "https://127.0.0.1:1"}


def config(folder: Path, managed: dict[str, Any]) -> str:
    where = {"mtls_dir": str(folder / "mtls"), "dp_id_file": str(folder / "dp_id"), "metrics_addr": ""}
    etcd, proxy = {"endpoints": ["127.0.0.1:1"]}, {"addr": "127.0.0.1:0"}
    document = {"etcd": etcd, "proxy": proxy, "admin": {"enabled": False}, "managed": {**managed, **where}}
    path = folder / "config.yaml"
    path.write_text(json.dumps(document))
    return str(path)


@pytest.mark.parametrize(
    ("managed", "said"),
    [
        ({"enabled": False}, "managed.enabled: is false"),
        ({**MANAGED, "kubernetes_lease": "aisix"}, "for a pod in Kubernetes"),
        ({**MANAGED, "cp_base_url": None}, "managed.cp_base_url"),
    ],
)
def test_what_cannot_run_says_why(
    managed: dict[str, Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", config(tmp_path, managed)]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("managed", "said"), [(MANAGED, "bootstrap.token"), ({**MANAGED, "cp_cert_file": "x.crt"}, "cp_key_file")]
)
def test_what_has_no_certificate_says_what_is_missing(managed: dict[str, Any], said: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "aisix_cloud_agent", "--config", config(tmp_path, managed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out.strip()) == (0, f"aisix-cloud-agent {VERSION}")
