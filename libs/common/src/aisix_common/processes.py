"""Child processes that never outlive their parent, whatever ends it, on Linux and macOS.

Each child inherits the read end of a pipe whose write end only its parent holds. A thread of the child blocks on it
and ends the process when the pipe closes, which the kernel sees to even when the parent is killed with SIGKILL. A child
that has children of its own gives them a pipe of its own, so a whole tree goes within moments. (Linux' PR_SET_PDEATHSIG
would do for one level, fires when the *thread* that forked ends, and macOS has nothing like it.)

Processes are started with `Child` and never forked without exec: a fork would hold copies of the write ends. Knows
nothing of services, settings or logs.
"""

import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

LIFELINE: Final = "AISIX_LIFELINE_FD"
"""Environment variable that tells a child which file descriptor its lifeline is."""

ORPHANED: Final = 3
"""Exit code of a process that ended because its parent was gone."""


def hold_lifeline(environ: MutableMapping[str, str]) -> bool:
    """End this process as soon as the parent that started it with `Child` is gone; first thing in a child's `main`.

    Takes the variable out of `environ` (normally `os.environ`). Returns False, and does nothing, in a process that was
    started by other means, also when a stale variable names something that is no pipe.
    """
    text = environ.pop(LIFELINE, "")
    if not text.isascii() or not text.isdigit():
        return False
    fd = int(text)
    try:
        if not stat.S_ISFIFO(os.fstat(fd).st_mode):
            return False
        os.set_inheritable(fd, False)
    except (OSError, OverflowError):
        return False
    threading.Thread(target=_end_with, args=(fd,), name="lifeline", daemon=True).start()
    return True


def _end_with(fd: int) -> None:
    """Block until the pipe at `fd` closes, then end the process at once: nobody is left to drain for."""
    try:
        while os.read(fd, 64):
            pass
    finally:
        os._exit(ORPHANED)


@dataclass(frozen=True, slots=True)
class Command:
    """What to start: `python -m <module> <arguments>` under the running interpreter."""

    name: str
    """What it is called in messages."""
    module: str
    arguments: tuple[str, ...] = ()


@contextmanager
def _hangups_wait() -> Iterator[None]:
    """Processes started inside begin with SIGHUP blocked: one that comes before they can listen waits for them and
    does not end them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def hear_hangups() -> None:
    """Let SIGHUP through, one that waited too; for a child, once it has a handler. Only for the main thread."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


class Child:
    """A running child process. It ends when this process does, provided it calls `hold_lifeline`."""

    def __init__(self, command: Command, environ: Mapping[str, str], *, pass_fds: Sequence[int] = ()) -> None:
        """Start `command` with exactly `environ`; `pass_fds` (such as listening sockets) are inherited.

        The child leads a process group of its own, so that Ctrl-C in a terminal reaches the parent alone and the
        child hears of it once, from the parent. It begins with SIGHUP blocked until `hear_hangups`. Raises OSError
        when no process can be made.
        """
        self.name: Final = command.name
        read_end, self._write_end = os.pipe()
        try:
            with _hangups_wait():
                self._process: Final = subprocess.Popen(
                    # -P: a file called like one of our modules in the working directory must not be imported.
                    [sys.executable, "-P", "-m", command.module, *command.arguments],
                    env={**environ, LIFELINE: str(read_end)},
                    stdin=subprocess.DEVNULL,
                    pass_fds=(read_end, *pass_fds),
                    process_group=0,
                )
        except BaseException:
            os.close(self._write_end)
            raise
        finally:
            os.close(read_end)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code if the end was already noticed by `wait` or `running`; a signal N that ended it reads 128+N."""
        code = self._process.returncode
        return code if code is None or code >= 0 else 128 - code

    def running(self) -> bool:
        """Whether the process still runs; does not block."""
        return self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when the process is gone."""
        self._process.send_signal(number)

    def wait(self, timeout: float | None = None) -> int:
        """Block until the process ended, at most `timeout` seconds, and give its exit code (see `exit_code`).

        Raises TimeoutError. For threads, never for an event loop.
        """
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} is still running") from None
        code = self.exit_code
        assert code is not None
        return code

    def cut(self) -> None:
        """Kill the process and let go of its lifeline: it, and all it started, ends at once without draining.

        In this order, so that its exit code is always that of a kill. Idempotent; part of every clean end, after
        `wait`, too.
        """
        self._process.kill()
        if self._write_end >= 0:
            os.close(self._write_end)
            self._write_end = -1
