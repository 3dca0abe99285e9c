"""`python -m aisix_proxy --config FILE`: the proxy service as a process of its own, or as the parent of its workers."""

import os
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

from aisix_common.processes import Command
from aisix_common.service import Build, Lifecycle, Listener
from aisix_common.service.command import Run, service_command
from aisix_common.settings import Loaded, Settings
from aisix_common.tasks import TaskOwner
from aisix_common.workers import run_workers

from .app import Process, build

PROGRAM: Final = "aisix-proxy"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until told to stop. Returns the exit code: 0 after a drain, 1 when it cannot start."""
    return service_command(PROGRAM, "The proxy of the AISIX AI gateway.", _prepare, arguments)


def _prepare(path: str, loaded: Loaded) -> Run:
    command = Command("proxy", "aisix_proxy", ("--config", path))
    build = _build_for(loaded.settings)
    return lambda: run_workers("proxy", loaded.settings, build, command=command, warnings=loaded.warnings)


def _build_for(settings: Settings) -> Build:
    async def build_here(stack: AsyncExitStack, lifecycle: Lifecycle, tasks: TaskOwner) -> Sequence[Listener]:
        """What the frame builds the service with."""
        assert lifecycle.log_writer is not None  # the frame made it
        process = Process(os.environ, lifecycle.log_writer, lifecycle.worker)
        return await build(settings, process, stack, lifecycle, tasks)

    return build_here


if __name__ == "__main__":
    sys.exit(main())
