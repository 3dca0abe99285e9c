"""The frame every service runs in: loop, logs, signals, listeners, drain, exit code (control-plane 7)."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import TypeAlias

from ..settings import Settings
from ..tasks import TaskOwner
from .lifecycle import Lifecycle
from .listener import Listener

Build: TypeAlias = Callable[[AsyncExitStack, Lifecycle, TaskOwner], Awaitable[Sequence[Listener]]]
"""Makes everything long-lived on the stack and says what to listen on. Must not wait for configuration to arrive."""


def run_service(name: str, settings: Settings, build: Build, *, warnings: Sequence[str] = ()) -> int:
    """Run a service until SIGINT or SIGTERM and give its exit code: `sys.exit(run_service(...))`.

    Logs are configured (`logs.configure`; the writer is `lifecycle.log_writer`), `warnings` of the configuration are
    logged, `build` is awaited, its listeners are bound, and after a signal the service drains: probes turn 503, it
    goes on accepting for `shutdown.min_drain_secs`, waits until nothing is in flight, closes listeners and the stack.
    Background tasks are cancelled before the stack is closed. What keeps it from starting is one line on stderr, exit 1.
    """
    raise NotImplementedError
