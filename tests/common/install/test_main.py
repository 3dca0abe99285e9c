"""The commands as the chart's jobs run them: `python -m aisix_common.install`, in a process."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.etcd import EtcdServer, free_port
from tests.support.kubernetes_api import kubernetes_api

pytestmark = pytest.mark.slow  # processes, and an etcd of its own for each


def _run(*arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "aisix_common.install", *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


def _credentials(folder: Path) -> Path:
    folder.mkdir()
    (folder / "proxy-user").write_text("gateway")
    for who in ("root", "proxy", "admin", "cloud-agent"):
        (folder / f"{who}-password").write_text(f"{who}-canary\n")
    return folder


async def test_secrets_are_made_in_a_pod(tmp_path: Path) -> None:
    async with kubernetes_api(tmp_path) as api:
        account = api.account("gw", "hook")
        names = {"x-admin", "x-keyring", "x-auth", "x-tls", "x-ca", "x-client-proxy"}
        api.accounts.allow(account, "create", "secrets", "gw")
        api.accounts.allow(account, "get", "secrets", "gw", names=names)
        api.mount(tmp_path / "sa", account)
        host, port = api.url.removeprefix("https://").split(":")
        arguments = (
            *("ensure-secrets", "--service-account", str(tmp_path / "sa"), "--label=app.kubernetes.io/part-of=aisix"),
            *("--admin-secret=x-admin", "--keyring-secret=x-keyring", "--etcd-auth-secret=x-auth"),
            *("--etcd-ca-secret=x-ca", "--etcd-server-secret=x-tls", "--etcd-host=x-etcd", "--renew-before=365"),
            "--etcd-client-secret=proxy=x-client-proxy",
        )
        for said in ("made", "kept"):
            done = await asyncio.to_thread(
                lambda: _run(*arguments, KUBERNETES_SERVICE_HOST=host, KUBERNETES_SERVICE_PORT=port)
            )
            assert done.returncode == 0, done.stderr
            assert {line.split()[1].rstrip(":") for line in done.stdout.splitlines() if f": {said}" in line} == names


def test_users_care_and_backup(fresh_etcd: EtcdServer, tmp_path: Path) -> None:
    credentials = str(_credentials(tmp_path / "credentials"))
    common = (f"--endpoint={fresh_etcd.endpoint}", "--credentials", credentials)
    made = _run("etcd-auth", *common, "--prefix=/gw", "--managed")
    assert made.returncode == 0, made.stderr
    assert "role proxy: read /gw/*" in made.stdout and "user gateway: role proxy" in made.stdout
    assert "user cloud-agent: made" in made.stdout
    assert "canary" not in made.stdout + made.stderr
    assert _run("etcd-maintain", *common).returncode == 0
    assert _run("etcd-backup", *common, "--folder", str(tmp_path)).returncode == 0
    (snapshot,) = tmp_path.glob("aisix-*.db")
    fresh_etcd.stop()
    data = tmp_path / "etcd" / "data"
    assert _run("etcd-restore", "--snapshot", str(snapshot), "--data", str(data)).returncode == 0
    assert not data.exists()


def test_what_goes_wrong_is_said(tmp_path: Path) -> None:
    away = _run("etcd-maintain", f"--endpoint=http://127.0.0.1:{free_port()}", "--timeout=1")
    assert away.returncode == 1 and away.stderr.startswith("Error: etcd: ")
    half = _run("etcd-maintain", "--endpoint=https://x", "--ca=a")
    assert half.returncode == 1 and "--ca, --cert and --key are needed together" in half.stderr
    unmounted = _run("etcd-auth", "--endpoint=http://x", "--credentials", str(tmp_path))
    assert unmounted.returncode == 1 and "mount the Secret with etcd's credentials" in unmounted.stderr
    assert "--credentials is needed" in _run("etcd-auth", "--endpoint=http://x").stderr
    assert _run("ensure-secrets").returncode == 1
    assert _run("nonsense").returncode == 2
    assert _run("etcd-backup", "--endpoint=http://x", "--folder=x", "--keep=0").returncode == 2
