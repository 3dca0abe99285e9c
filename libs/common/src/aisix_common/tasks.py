"""Who owns background work: every task of the program is started here, and somebody waits for its end.

The only module that calls `asyncio.create_task` (ruff and the house tests hold the others to it). A task that crashes
is told about at once, not when the garbage collector finds it. Knows nothing of services: what a crash of an essential
task means is decided by whoever made the owner.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, Self, TypeVar

from .logs import get_logger

T = TypeVar("T")

CLOSE_SECONDS: Final = 5.0
"""How long `close` waits for cancelled tasks to end."""

_log = get_logger(__name__)


class TaskOwner:
    """Owns background tasks from `spawn` to their end, or to `close`.

    `on_essential_crash(name)` is called, in the loop, when a task spawned with `essential=True` ends with an error.
    """

    def __init__(self, on_essential_crash: Callable[[str], None] | None = None) -> None:
        self._on_essential_crash = on_essential_crash
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def __len__(self) -> int:
        """How many tasks are running."""
        return len(self._tasks)

    def spawn(self, coro: Coroutine[Any, Any, T], *, name: str, essential: bool = False) -> "asyncio.Task[T]":
        """Run `coro` in the background under `name`.

        An error it ends with is logged with its name (nobody needs to await the task for that); when `essential`, the
        owner's callback is called too. Raises RuntimeError, and closes `coro`, once the owner is closed.
        """
        if self._closed:
            coro.close()
            raise RuntimeError(f"task {name!r} was started after its owner was closed")
        task = asyncio.create_task(coro, name=name)  # noqa: TID251 - the one place
        self._tasks.add(task)
        task.add_done_callback(self._ended_essential if essential else self._ended)
        return task

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a background task crashed", task=task.get_name(), exc_info=error)

    def _ended_essential(self, task: "asyncio.Task[Any]") -> None:
        self._ended(task)
        if not task.cancelled() and task.exception() is not None and self._on_essential_crash is not None:
            self._on_essential_crash(task.get_name())

    async def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Cancel every task and wait for them, `timeout` seconds at most; idempotent.

        A task that resists is named in the log and left behind, so that one mistake cannot keep a process alive.
        """
        self._closed = True
        tasks = self._tasks - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if not tasks:
            return
        _, resisting = await asyncio.wait(tasks, timeout=timeout)
        if resisting:
            _log.error("background tasks did not end in time", tasks=sorted(task.get_name() for task in resisting))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()
