"""Child processes of `make run`: every line they print gets their name in front, and they never outlive us."""

import asyncio
import ctypes
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

STOP_SECONDS = 10.0
"""How long a child may take to stop before it is killed."""

_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """Between fork and exec: have Linux end this child when we are killed; elsewhere Ctrl-C is the only way."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass
class Process:
    """One running child and the task that prefixes its output."""

    name: str
    child: asyncio.subprocess.Process
    printer: "asyncio.Task[None]"
    muted: asyncio.Event
    announced: "asyncio.Future[str]"
    """The first line it prints, of one that `announces`; else empty from the beginning."""

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL after `STOP_SECONDS`.

        What a child says about the end that we asked for is not shown: etcd warns of it as of a fault.
        """
        if self.child.returncode is None:
            self.muted.set()
            self.child.terminate()
            try:
                await asyncio.wait_for(self.child.wait(), STOP_SECONDS)
            except TimeoutError:
                self.child.kill()
        await self.printer


async def start(
    name: str, command: Sequence[str], environment: Mapping[str, str], *, announces: bool = False
) -> Process:
    """Start `command` in a session of its own, so that Ctrl-C reaches it through us and in our order. `announces`: its
    first line is for us, and not shown."""
    child = await asyncio.create_subprocess_exec(
        *command,
        env=dict(environment),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=_die_with_parent,
        limit=1 << 20,
    )
    muted = asyncio.Event()
    announced = asyncio.get_running_loop().create_future()
    if not announces:
        announced.set_result("")
    printer = asyncio.get_running_loop().create_task(_print_lines(name, child, muted, announced))
    return Process(name, child, printer, muted, announced)


async def _print_lines(
    name: str, child: asyncio.subprocess.Process, muted: asyncio.Event, announced: "asyncio.Future[str]"
) -> None:
    assert child.stdout is not None
    async for line in child.stdout:  # read to the end in any case: a full pipe would hold the child up
        if not announced.done():
            announced.set_result(line.decode(errors="replace"))
            continue
        if muted.is_set():
            continue
        sys.stdout.write(f"{name:>9} | {line.decode(errors='replace').rstrip()}\n")
        sys.stdout.flush()
