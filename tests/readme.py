"""The README's commands, run as a newcomer would, in a fresh clone in an empty folder (what is committed is cloned).

`make run`, the README's curl, the curl that `make run` prints, the admin curls of the README's `console` block and a
listing of models with the caller key they end in, Ctrl-C; then `make test` for a part of the tests (`make check` runs
them all elsewhere). The commands are the README's own but for the ports, chosen so that a gateway that already runs on
this machine is left alone, and the ids of earlier answers, filled in.

Run: python -m tests.readme
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
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
RUN_SECONDS: Final = 120.0
"""From `make run` to its curl, on a machine with a warm package index."""
ID_OF_FIRST: Final = "<id of the first answer>"
SEEN_SECONDS: Final = 5.0
"""How long the proxy may take to serve what the admin API has accepted."""


def commands(readme: str) -> list[str]:
    """All commands of the README's `sh` blocks, continuation lines joined."""
    blocks = re.findall(r"^```sh\n(.*?)^```", readme, re.M | re.S)
    return [c.strip() for block in blocks for c in re.split(r"(?<!\\)\n", block) if c.strip()]


def answer(readme: str) -> dict[str, object]:
    """The answer that the README shows under the curl."""
    shown = re.findall(r"^```json\n(.*?)^```", readme, re.M | re.S)[0]
    document: dict[str, object] = json.loads(shown)
    return document


def console(readme: str) -> list[str]:
    """The commands of the README's `console` block: what follows a `$ `, continuation lines included."""
    block = re.findall(r"^```console\n(.*?)^```", readme, re.M | re.S)[0]
    return [command.strip() for command in re.split(r"^\$ ", block, flags=re.M) if command.strip()]


def printed_curl(log: str) -> str:
    """The curl of the demo model as `make run` printed it."""
    curls: list[str] = re.findall(r"^curl -sS (?:.*\\\n)+.*$", log, re.M)
    return next(curl for curl in curls if "demo-model" in curl)


def shell(command: str, folder: Path) -> Any:
    """The JSON that the command printed."""
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=30, check=False)
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise SystemExit(f"no JSON came from: {command}\n{done.stdout}{done.stderr}") from None


def free_ports() -> tuple[int, int, int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports[0], ports[1], ports[2]


def check_answer(curl: str, folder: Path, expected: dict[str, object]) -> None:
    """The curl answers with the fields and the model that the README shows."""
    got = shell(curl, folder)
    if set(got) != set(expected) or got["model"] != expected["model"]:
        raise SystemExit(f"answered otherwise than the README says: {curl}\n{got}")


def check_console(listed: list[str], folder: Path, ports: tuple[int, int, int]) -> None:
    """The README's admin curls: each creates its resource, and the caller key they end in sees the model."""
    if not any(ID_OF_FIRST in command for command in listed):
        raise SystemExit(f"the README's admin curls no longer say `{ID_OF_FIRST}`")
    variables, *curls = (command.replace(":3001", f":{ports[1]}") for command in listed)
    first, answer = "", {}
    for curl in curls:
        answer = shell(f"{variables}\n{curl.replace(ID_OF_FIRST, first)}", folder)
        if "id" not in answer:
            raise SystemExit(f"refused: {curl}\n{answer}")
        first = first or answer["id"]
    models = f"curl -sS http://127.0.0.1:{ports[0]}/v1/models -H 'Authorization: Bearer {answer['plaintext']}'"
    deadline = time.monotonic() + SEEN_SECONDS
    while [model["id"] for model in shell(models, folder).get("data", ())] != ["fast"]:
        if time.monotonic() > deadline:
            raise SystemExit(f"the new caller key does not see the model `fast` after {SEEN_SECONDS:.0f} s")
        time.sleep(0.05)


def check_run(clone: Path, readme: str, curl: str) -> None:
    """`make run`, its curls within RUN_SECONDS, the README's answers, and everything gone after Ctrl-C."""
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
        check_answer(curl.replace(":3000", f":{ports[0]}"), clone, answer(readme))
        check_answer(printed_curl(log.read_text()), clone, answer(readme))
        print(f"readme: `make run` printed its curl after {took:.0f} s, and it answers as the README's does")
        check_console(console(readme), clone, ports)
        print("readme: the admin curls made a model and a caller key that sees it")
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
        check_run(clone, readme, curl)
        tests = ["make", "test", "PYTEST_ARGS=tests/house tests/e2e/test_first_request.py -q"]
        subprocess.run(tests, cwd=clone, check=True, timeout=600)
    print("readme: `make run`, its curls, the admin curls and a part of `make test` work in a fresh clone")
    return 0


if __name__ == "__main__":
    sys.exit(main())
