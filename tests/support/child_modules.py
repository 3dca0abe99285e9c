"""Tiny real programs for tests of process supervision: written to a folder and started with `python -m`.

A program reports by appending lines to the file `events`, because its output belongs to what is tested.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

PRELUDE = """
import os, signal, sys, time
from aisix_common.processes import Child, Command, hold_lifeline
hold_lifeline(os.environ)
folder = os.environ["TEST_FOLDER"]
def note(text):
    with open(os.path.join(folder, "events"), "a") as file:
        file.write(text + "\\n")
"""

WAITING = """
def stop(number, frame):
    note(NAME + " got " + signal.Signals(number).name)
    sys.exit(CODE)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
note(NAME + " runs " + str(os.getpid()))
while True:  # a signal that comes at the very beginning of a sleep is heard at its end only: none is long
    time.sleep(0.2)
"""


class Programs:
    """Programs in `folder`, and what they told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, module: str, body: str) -> str:
        """Make `python -m <module>` run `body` after the prelude."""
        (self.folder / f"{module}.py").write_text(f"{PRELUDE}\n{body}")
        return module

    def waiting(self, module: str, code: int = 0) -> str:
        """A program that says `<module> runs <pid>`, waits for SIGTERM or SIGINT, and exits with `code`."""
        return self.write(module, f"NAME, CODE = {module!r}, {code}\n{WAITING}")

    @property
    def environ(self) -> dict[str, str]:
        """An environment in which the programs are found, without settings of the machine's."""
        kept = {name: text for name, text in os.environ.items() if not name.upper().startswith("AISIX_")}
        paths = [str(self.folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {**kept, "PYTHONPATH": os.pathsep.join(paths), "TEST_FOLDER": str(self.folder)}

    def events(self) -> list[str]:
        """What the programs noted so far, whole lines only."""
        file = self.folder / "events"
        return file.read_text().splitlines() if file.exists() else []

    def pid(self, name: str) -> int:
        """The process id a program noted; waits for it."""
        found: list[str] = []

        def noted() -> bool:
            found[:] = [line for line in self.events() if line.startswith(f"{name} runs ")]
            return bool(found)

        eventually(noted)
        return int(found[-1].rsplit(" ", 1)[1])


def eventually(condition: Callable[[], bool], timeout: float = 15.0) -> None:
    """Wait until `condition` holds. Other processes bring it about, so there is nothing better than to look again."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether a process exists and is not a zombie that only waits to be reaped."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    if sys.platform == "linux":
        try:
            return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
        except FileNotFoundError:
            return False
    return True
