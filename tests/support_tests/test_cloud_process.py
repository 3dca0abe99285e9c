"""The Cloud as a process: what it prints is enough to use it, and nothing of it outlives whoever started it."""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.house.checks import ROOT

SECONDS = 10.0
COMMAND = (sys.executable, "-m", "tests.support.cloud", "--folder")
STARTER = "import subprocess, sys; print(subprocess.Popen(sys.argv[1:]).pid, flush=True); sys.stdin.read()"


@contextmanager
def started(*command: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def call(method: str, url: str, document: Any = None) -> Any:
    request = urllib.request.Request(
        url, method=method, data=None if document is None else json.dumps(document).encode()
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5) as answer:
        return json.load(answer)


def lines(process: "subprocess.Popen[str]", count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline() for _ in range(count)]


def children(pid: int) -> set[int]:
    """Of a process and of its children."""
    parents = {int(each.name): status(int(each.name))[1] for each in Path("/proc").iterdir() if each.name.isdigit()}
    near = {child for child, parent in parents.items() if parent == pid}
    return near | {child for child, parent in parents.items() if parent in near}


def status(pid: int) -> tuple[str, int]:
    """State and parent; ("", 0) of a process that is gone."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return "", 0
    return state, int(parent)


def gone(pids: set[int]) -> bool:
    """Whether none of them runs any more, after a moment."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.02)
    return False


def alive(pid: int) -> bool:
    return status(pid)[0] not in ("", "Z", "X")


def test_a_process_is_used_steered_killed_and_started_anew(tmp_path: Path) -> None:
    command = (*COMMAND, str(tmp_path / "cloud"))
    with started(*command) as process:
        told = json.loads(lines(process, 1)[0])
        env_id = told["environments"][0]["env_id"]
        assert told["pid"] == process.pid
        assert Path(told["environments"][0]["token_file"]).read_text() == told["environments"][0]["token"]
        assert Path(told["ca_file"]).read_text().startswith("-----BEGIN CERTIFICATE-----")
        control = told["control"]
        written = call("PUT", f"{control}/rows/{env_id}/models/m-1", {"a": 1})["revision"]
        assert call("GET", f"{control}/rows/{env_id}") == {"models/m-1": {"a": 1}}
        state = call("GET", f"{control}/state")
        assert (state["revision"], state["events"], state["heartbeats"]) == (written, 0, [])
        call("PUT", f"{control}/budgets/key-1", {"allow": False, "fail_mode": "open"})
        call("POST", f"{control}/troubles", {"path": "/dp/telemetry", "status": 500, "times": 2})
        call("POST", f"{control}/front/cut?lane=etcd")
        assert call("POST", f"{control}/tokens/{env_id}")["token"]
        assert call("GET", f"{control}/events") == []
        all_of_it = children(process.pid) | {process.pid}
        assert len(all_of_it) >= 3
        process.kill()
        process.wait()
        assert gone(all_of_it)
    port = told["endpoint"].rpartition(":")[2]
    with started(*command, "--port", port) as process:
        again = json.loads(lines(process, 1)[0])
        same = ("url", "endpoint", "ca_pin", "environments")
        assert {name: again[name] for name in same} == {name: told[name] for name in same}
        assert call("GET", f"{again['control']}/rows/{env_id}") == {"models/m-1": {"a": 1}}
        all_of_it = children(process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
        assert gone(all_of_it)


def test_it_ends_with_whoever_started_it(tmp_path: Path) -> None:
    with started(sys.executable, "-c", STARTER, *COMMAND, str(tmp_path / "cloud")) as starter:
        found = lines(starter, 2)
        pid = next(int(line) for line in found if line.strip().isdigit())
        all_of_it = children(pid) | {pid}
        assert len(all_of_it) >= 3
        starter.kill()
        assert gone(all_of_it)
