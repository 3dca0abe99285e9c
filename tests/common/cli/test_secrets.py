"""`aisix secrets`: the command line, and keys that it makes."""

import stat
from pathlib import Path

import pytest

from aisix_common.cli.secrets import main
from aisix_common.secrets.envelope import decode_key

from tests.common.cli.conftest import command
from tests.common.cli.stored_rows import Stored
from tests.support.etcd import EtcdServer, free_port


def test_a_key_on_stdout() -> None:
    run = command("secrets", "generate-key")
    assert run.returncode == 0
    assert len(decode_key(run.stdout)) == 32
    assert "secrets.keyring" in run.stderr
    assert run.stdout.strip() not in run.stderr


def test_a_key_in_a_file_once(tmp_path: Path) -> None:
    path = tmp_path / "key"
    run = command("secrets", "generate-key", "-o", str(path))
    assert (run.returncode, run.stdout) == (0, "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = path.read_text()
    decode_key(key)
    run = command("secrets", "generate-key", "-o", str(path))
    assert (run.returncode, path.read_text()) == (1, key)
    assert "never overwritten" in run.stderr


@pytest.mark.parametrize("output", ["", ".", "/"])
def test_a_key_in_a_file_without_a_name(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate-key", "-o", output]) == 1
    assert capsys.readouterr().err.startswith("Error: ")


@pytest.mark.parametrize("arguments", [(), ("rotate",), ("status",), ("reencrypt", "--conf", "x"), ("status", "x")])
def test_a_wrong_command_line_is_2(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_what_cannot_be_done_is_said(tmp_path: Path, etcd: EtcdServer) -> None:
    stored = Stored(tmp_path, etcd, "/x")
    away = {"AISIX_ETCD__ENDPOINTS": f"127.0.0.1:{free_port()}", "AISIX_ETCD__REQUEST_TIMEOUT_MS": "200"}
    run = command("secrets", "reencrypt", "--config", stored.config("k1"), **away)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("Error: etcd: ")
    (tmp_path / "k1").write_text("canary")
    run = command("secrets", "status", "--config", stored.config("k1"))
    assert (run.returncode, run.stdout) == (1, "")
    assert "secrets.keyring[0].file" in run.stderr
    assert "canary" not in run.stderr
