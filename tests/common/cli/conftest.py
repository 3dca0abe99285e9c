"""A gateway made of programs of the test's, run by the real command in a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.child_modules import Programs, alive, eventually

CONFIG = """\
proxy: {addr: "127.0.0.1:0"}
admin: {admin_keys: [a-key-nobody-printed]}
etcd: {endpoints: ["http://127.0.0.1:1"]}
observability: {log_format: text}
"""

LAUNCHER = """\
import sys
from aisix_common.cli.__main__ import main
from aisix_common.cli.services import Service
SERVICES = (
    Service("proxy", "fake_proxy"),
    Service("admin", "fake_admin", lambda settings: settings.admin_binds, {"AISIX_ADMIN__METRICS_ADDR": ""}),
    Service("cloud-agent", "fake_agent", lambda settings: settings.managed.enabled, restarts=True),
)
sys.exit(main(services=SERVICES))
"""


def command(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the real `aisix` with `arguments` to its end, without any AISIX_* of this process."""
    kept = {name: text for name, text in os.environ.items() if not name.upper().startswith("AISIX_")}
    line = [sys.executable, "-m", "aisix_common.cli", *arguments]
    return subprocess.run(line, env={**kept, **environ}, capture_output=True, text=True, timeout=30, check=False)


class Gateway:
    """`aisix` with `fake_proxy`, `fake_admin` and `fake_agent` as its services."""

    def __init__(self, programs: Programs) -> None:
        self.programs = programs
        self.config = programs.folder / "config.yaml"
        self.config.write_text(f"{CONFIG}secrets: {{local_key_file: {programs.folder / 'keyring.key'}}}\n")
        self._launcher = programs.folder / "launcher.py"
        self._launcher.write_text(LAUNCHER)
        self.environ = programs.environ
        self.process: subprocess.Popen[str] | None = None

    def manage(self) -> None:
        """Have it managed from the Cloud: `fake_proxy` and `fake_agent` run."""
        managed = "managed: {enabled: true, cp_base_url: 'https://cloud.example'}\n"
        text = self.config.read_text().replace("admin: {admin_keys: [a-key-nobody-printed]}\n", managed)
        self.config.write_text(text)

    def start(self, arguments: Sequence[str] | None = None, output: int = subprocess.PIPE) -> subprocess.Popen[str]:
        """Start it with `--config` unless `arguments` are given; `output` is where it writes."""
        self.process = subprocess.Popen(
            [
                sys.executable,
                str(self._launcher),
                *(("--config", str(self.config)) if arguments is None else arguments),
            ],
            env=self.environ,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return self.process

    def end(self, timeout: float = 20.0) -> tuple[int, str]:
        """Wait for its end: exit code and all it and its children wrote, in order."""
        assert self.process is not None
        shown, _ = self.process.communicate(timeout=timeout)
        return self.process.returncode, shown

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor alone."""
        assert self.process is not None
        self.process.send_signal(number)

    def close(self) -> None:
        """Nothing of it outlives the test."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    made = Gateway(Programs(tmp_path))
    yield made
    made.close()
    pids = [int(line.rsplit(" ", 1)[1]) for line in made.programs.events() if " runs " in line]
    eventually(lambda: not any(map(alive, pids)))
