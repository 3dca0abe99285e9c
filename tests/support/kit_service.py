"""A small service made of the service kit, for tests of the kit: `python -m tests.support.kit_service CONFIG`.

GET /livez /readyz      probes        GET /count     counts one in kit_counted_total, answers its pid
GET /hold               answered after /release, in flight until then
GET /busy               how many requests are in flight, this one included, and the pid
GET /crash              an essential background task raises
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from aisix_common import probes
from aisix_common.metrics import Metrics
from aisix_common.processes import Command
from aisix_common.service import Lifecycle, Listener, Page, metrics_listener
from aisix_common.settings import Settings, load
from aisix_common.tasks import TaskOwner
from aisix_common.workers import run_workers

ROOT: Final = Path(__file__).resolve().parents[2]
SLOW_START: Final = "KIT_SLOW_START"


class Kit:
    """The service."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    async def build(self, stack: AsyncExitStack, lifecycle: Lifecycle, tasks: TaskOwner) -> Sequence[Listener]:
        stack.callback(os.write, 1, b"stack closed\n")  # in one piece: others write to the same pipe
        if SLOW_START in os.environ:
            print("building", flush=True)
            await asyncio.sleep(60)
        self.lifecycle, self.tasks = lifecycle, tasks
        metrics = Metrics()
        lifecycle.applied = True
        self.counted = metrics.counter("kit_counted_total", "Requests to /count.").cell()
        self.released = asyncio.Event()
        prometheus = self.settings.observability.metrics.prometheus
        return [
            Listener(
                name="proxy",
                setting="proxy.addr",
                address=self.settings.proxy.addr,
                make=lambda: web.Server(self.handle, access_log=None),
                tls=self.settings.proxy.tls,
                shared=True,
            ),
            metrics_listener(
                metrics,
                self.pages(),
                address=prometheus.addr,
                path=prometheus.path,
                setting="observability.metrics.prometheus.addr",
            ),
        ]

    def pages(self) -> dict[str, Page]:
        index = self.lifecycle.worker or 0

        async def ready() -> tuple[int, str, bytes]:
            return 200, "text/plain", b"ok"

        async def config() -> tuple[int, str, bytes]:
            body = {"state": "synced", "applied": {"applied_revision": 100 - index, "apply_seq": 1}}
            return 200, "application/json", json.dumps(body).encode()

        return {"/status/ready": ready, "/status/config": config}

    async def handle(self, request: web.BaseRequest) -> web.Response:
        self.lifecycle.enter()
        try:
            return await self.answer(request.path)
        finally:
            self.lifecycle.leave()

    async def answer(self, path: str) -> web.Response:
        if path in ("/livez", "/readyz"):
            draining, applied = self.lifecycle.draining, self.lifecycle.applied
            live = probes.livez(draining=draining)
            answer = live if path == "/livez" else probes.readyz(draining=draining, applied=applied)
            return web.Response(status=answer.status, text=answer.body)
        if path == "/count":
            self.counted.add()
        elif path == "/hold":
            await self.released.wait()
        elif path == "/release":
            self.released.set()
        elif path == "/crash":
            self.tasks.spawn(crash(), name="doomed", essential=True)
        elif path == "/busy":
            return web.Response(text=f"{self.lifecycle.in_flight} {os.getpid()}")
        return web.Response(text=str(os.getpid()))


async def crash() -> None:
    raise LookupError("on purpose")


class Running:
    """A started kit service: its output line by line, signals, exit code. Kills what is left when the test ends."""

    def __init__(self, folder: Path, config: dict[str, Any], environ: dict[str, str] | None = None) -> None:
        base: dict[str, Any] = {
            "etcd": {"endpoints": ["http://127.0.0.1:1"]},
            "admin": {"enabled": False},
            "proxy": {"addr": "127.0.0.1:0", **config.pop("proxy", {})},
            "shutdown": {"min_drain_secs": config.pop("min_drain_secs", 0)},
            "observability": {"log_format": "json", "metrics": {"prometheus": {"addr": "127.0.0.1:0"}}},
        }
        path = folder / "kit.json"
        path.write_text(json.dumps({**base, **config}))
        clean = {key: value for key, value in os.environ.items() if not key.startswith("AISIX_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.kit_service", str(path)],
            cwd=ROOT,
            env={**clean, "PYTHONPATH": str(ROOT), **(environ or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.lines: list[dict[str, Any]] = []
        self.plain: list[str] = []

    def read_until(self, event: str, **fields: Any) -> dict[str, Any]:
        """The first log line, not read before, of `event` with these fields; reads what comes before it too."""
        assert self.process.stdout is not None
        for raw in self.process.stdout:
            if not raw.startswith(b"{"):
                self.plain.append(raw.decode().rstrip())
                if self.plain[-1] == event:
                    return {}
                continue
            line: dict[str, Any] = json.loads(raw)
            self.lines.append(line)
            if line["message"] == event and fields.items() <= line.items():
                return line
        raise AssertionError(f"no {event!r} in {self.lines} {self.plain}; stderr: {self.errors()}")

    def errors(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def urls(self, *names: str) -> dict[str, str]:
        """Where each listener of these names is."""
        found: dict[str, str] = {}
        while not found.keys() >= set(names):
            line = self.read_until("listening")
            found[line["listener"]] = line["url"]
        return found

    def signal(self, number: signal.Signals) -> float:
        """Send a signal to the process; the moment it was sent."""
        self.process.send_signal(number)
        return time.monotonic()

    def end(self, seconds: float = 15) -> int:
        """The exit code; reads the rest of the output into `lines` and `plain`."""
        out, self.stderr = self.process.communicate(timeout=seconds)
        for raw in out.decode().splitlines():
            if raw.startswith("{"):
                self.lines.append(json.loads(raw))
            else:
                self.plain.append(raw)
        return self.process.returncode

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


def main() -> int:
    settings = load(sys.argv[1], os.environ).settings
    command = Command("kit", "tests.support.kit_service", (sys.argv[1],))
    return run_workers("kit", settings, Kit(settings).build, command=command, warnings=["a warning"])


if __name__ == "__main__":
    sys.exit(main())
