"""The README's commands, run as a newcomer would: a fresh clone in an empty folder, `make run`, the curl, Ctrl-C.

Run: python -m tests.readme (what is committed is what is cloned). Ports are chosen so that a gateway that already runs
on this machine is left alone; apart from them the commands are the README's own.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
RUN_SECONDS: Final = 120.0
"""From `make run` to its curl, on a machine with a warm package index."""


def commands(readme: str) -> list[str]:
    """All commands of the README's `sh` blocks, continuation lines joined."""
    blocks = re.findall(r"^```sh\n(.*?)^```", readme, re.M | re.S)
    return [c.strip() for block in blocks for c in re.split(r"(?<!\\)\n", block) if c.strip()]


def answer(readme: str) -> dict[str, object]:
    """The answer that the README shows under the curl."""
    shown = re.findall(r"^```json\n(.*?)^```", readme, re.M | re.S)[0]
    document: dict[str, object] = json.loads(shown)
    return document


def free_ports() -> tuple[int, int, int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports[0], ports[1], ports[2]


def check_run(clone: Path, curl: str, expected: dict[str, object]) -> None:
    """`make run`, its curl within RUN_SECONDS, the README's answer, and everything gone after Ctrl-C."""
    ports = free_ports()
    environment = {**os.environ, "AISIX_RUN_PORTS": ",".join(map(str, ports))}
    environment.pop("OPENAI_API_KEY", None)
    log = clone / "make-run.log"
    started = time.monotonic()
    with log.open("wb") as output:
        make = subprocess.Popen(
            ["make", "run"], cwd=clone, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        while "Ctrl-C stops everything" not in log.read_text():
            if make.poll() is not None or time.monotonic() - started > RUN_SECONDS:
                raise SystemExit(f"`make run` printed no curl within {RUN_SECONDS:.0f} s:\n{log.read_text()[-3000:]}")
            time.sleep(0.2)
        took = time.monotonic() - started
        done = subprocess.run(
            ["bash", "-c", curl.replace(":3000", f":{ports[0]}")],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        got = json.loads(done.stdout)
        if set(got) != set(expected) or got["model"] != expected["model"]:
            raise SystemExit(f"the README's curl answered otherwise than the README says: {done.stdout}")
        print(f"readme: `make run` answered its curl after {took:.0f} s")
    finally:
        if make.poll() is None:
            os.killpg(make.pid, signal.SIGINT)
        make.wait(30)
    for port in ports:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                raise SystemExit(f"something still listens on port {port} after Ctrl-C:\n{log.read_text()[-2000:]}")


def main() -> int:
    readme = (ROOT / "README.md").read_text()
    listed = commands(readme)
    curl = next(c for c in listed if c.startswith("curl") and "/v1/chat/completions" in c)
    for wanted in ("make run", "make test"):
        if wanted not in listed:
            raise SystemExit(f"the README does not name `{wanted}`")
    with tempfile.TemporaryDirectory(prefix="aisix-readme-") as folder:
        clone = Path(folder) / "aisix"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        check_run(clone, curl, answer(readme))
        tests = ["make", "test", "PYTEST_ARGS=tests/house tests/e2e/test_first_request.py -q"]
        subprocess.run(tests, cwd=clone, check=True, timeout=600)
    print("readme: all commands work in a fresh clone")
    return 0


if __name__ == "__main__":
    sys.exit(main())
