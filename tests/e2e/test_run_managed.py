"""`make run-managed`: what it prints works as it is printed, and nothing is left of it after Ctrl-C."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.child_modules import eventually
from tests.support.etcd import free_port

ROOT = Path(__file__).parents[2]


def shell(command: str) -> str:
    """What a printed command prints."""
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=30, check=False)
    return done.stdout


def printed_curls(shown: str) -> list[str]:
    """The commands that stand in lines of their own: a chat, the change in the Cloud, a chat by the new name."""
    blocks = [block.strip() for block in shown.split("\n\n")]
    return [block for block in blocks if block.startswith("curl ")]


@pytest.mark.slow
def test_what_it_prints_works(tmp_path: Path) -> None:
    ports = [free_port() for _ in range(3)]
    kept = {name: text for name, text in os.environ.items() if not name.startswith("AISIX_")}
    environ = {**kept, "PYTHONPATH": str(ROOT), "AISIX_RUN_PORTS": ",".join(map(str, ports))}
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.local", "managed"], cwd=tmp_path, env=environ, stdout=output, stderr=output
        )
    try:

        def told() -> bool:
            assert process.poll() is None, log.read_text()
            return "Ctrl-C stops everything" in log.read_text()

        eventually(told, 60)
        ask, change, ask_anew = printed_curls(log.read_text())
        assert "You said: Say hello" in shell(ask)
        assert "revision" in shell(change)
        eventually(lambda: "You said: Say hello" in shell(ask_anew))
        assert json.loads(shell(ask))["error"]["type"] == "model_not_found"
        state = re.search(r"curl -sS \S+/state", log.read_text())
        assert state is not None
        assert json.loads(shell(state[0]))["heartbeats"]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
    assert process.returncode == 0, log.read_text()
    assert "Traceback" not in log.read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"log", ".run"}
