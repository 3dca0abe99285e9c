"""`aisix export` against a real etcd: the file, what is said beside it, the exit code, and the way back."""

import json
import stat
from pathlib import Path

from tests.common.cli.conftest import command
from tests.common.cli.stored_rows import Stored
from tests.support.etcd import EtcdServer, free_port

SECRET = "sk-canary-1"


def put(etcd: EtcdServer, prefix: str, **rows: object) -> None:
    for key, document in rows.items():
        etcd.ctl("put", f"{prefix}/{key.replace('__', '/')}", json.dumps(document))


def fill(etcd: EtcdServer, prefix: str) -> None:
    put(
        etcd,
        prefix,
        provider_keys__p1={"display_name": "one", "api_key": SECRET},
        models__m1={"display_name": "gpt", "provider": "openai", "model_name": "gpt-4o", "provider_key_id": "p1"},
        api_keys__k1={"key_hash": "h", "allowed_models": ["gpt"]},
    )


def test_there_and_back(etcd: EtcdServer, etcd_prefix: str, tmp_path: Path) -> None:
    fill(etcd, etcd_prefix)
    etcd.ctl("put", f"{etcd_prefix}-sibling/models/x", "{")  # begins like the prefix, and is none of ours
    path = tmp_path / "out.yaml"
    path.write_text("older and longer " * 1000)
    path.chmod(0o644)
    run = command("export", "--etcd", f"{etcd.endpoint}", "--prefix", f"{etcd_prefix}/", "-o", str(path))
    assert (run.returncode, run.stdout) == (0, ""), run.stderr
    assert run.stderr.splitlines() == [
        "exported 3 resource(s): 1 provider_keys, 1 models, 1 api_keys",
        "set these variables where the file is loaded:",
        "  AISIXSECRET_PROVIDER_KEY_ONE_API_KEY",
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SECRET not in path.read_text() + run.stderr
    assert command("validate", "--resources", str(path)).returncode == 1
    sound = command("validate", "--resources", str(path), AISIXSECRET_PROVIDER_KEY_ONE_API_KEY="x")
    assert (sound.returncode, sound.stdout) == (0, f"OK: {path} loaded 3 resource(s)\n")


def test_to_stdout_with_secrets(etcd: EtcdServer, etcd_prefix: str) -> None:
    fill(etcd, etcd_prefix)
    dead = f"127.0.0.1:{free_port()}"
    run = command("export", "--etcd", f"{dead},{etcd.endpoint}", "--prefix", etcd_prefix, "--reveal-secrets")
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith('---\n_format_version: "1"\nprovider_keys:\n')
    assert SECRET in run.stdout
    assert SECRET not in run.stderr


def test_issues_are_told_and_the_file_is_written(etcd: EtcdServer, etcd_prefix: str) -> None:
    fill(etcd, etcd_prefix)
    put(
        etcd, etcd_prefix, models__m2={"display_name": "gpt", "routing": {"targets": [{"model": "gpt"}]}}, models__m3={}
    )
    run = command("export", "--etcd", etcd.endpoint, "--prefix", etcd_prefix)
    assert run.returncode == 1
    assert run.stdout.count("display_name: gpt") == 2
    assert 'blocking: models ("gpt"): 2 rows have this name: m1, m2' in run.stderr
    assert f"rejected: {etcd_prefix}/models/m3: schema validation failed" in run.stderr


def test_an_etcd_that_is_not_there(tmp_path: Path) -> None:
    run = command("export", "--etcd", f"127.0.0.1:{free_port()}", "-o", str(tmp_path / "out.yaml"))
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("Error: etcd cannot be read: ")
    assert not (tmp_path / "out.yaml").exists()
    run = command("export", "--etcd", "http://a:b:c")
    assert run.returncode == 1
    assert run.stderr.startswith("Error: ")


def test_a_file_that_cannot_be_written(etcd: EtcdServer, etcd_prefix: str, tmp_path: Path) -> None:
    run = command("export", "--etcd", etcd.endpoint, "--prefix", etcd_prefix, "-o", str(tmp_path))
    assert run.returncode == 1
    assert run.stderr.startswith(f"Error: cannot write {tmp_path}: ")


def test_wrong_command_lines() -> None:
    assert command("export").returncode == 2
    shown = command("export", "--help")
    assert shown.returncode == 0
    assert "--reveal-secrets" in shown.stdout


def test_what_is_encrypted_opens_with_the_configuration(tmp_path: Path, etcd: EtcdServer, etcd_prefix: str) -> None:
    stored = Stored(tmp_path, etcd, etcd_prefix)
    for key, value in (stored.row("p", "k1"), stored.row("v", kind="secret_providers")):
        etcd.ctl("put", key, value.decode())
    arguments = ("export", "--etcd", etcd.endpoint, "--prefix", etcd_prefix, "--reveal-secrets")
    run = command(*arguments, "--config", stored.config("k2", "k1"))
    assert run.returncode == 0, run.stderr
    assert "api_key: sk-canary-3131" in run.stdout
    assert "note: secret_providers: 1 row(s) left out" in run.stderr
    run = command(*arguments)
    assert run.returncode == 1
    assert "blocking: provider_keys/p: /api_key is encrypted" in run.stderr
    assert "enc:v1:k1:" in run.stdout
    run = command(*arguments, "--config", str(tmp_path / "none.yaml"))
    assert (run.returncode, run.stdout) == (1, "")
