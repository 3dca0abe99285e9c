"""`python -m aisix_proxy --config FILE`: the proxy service as a process of its own, or as the parent of its workers."""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

from aisix_common.errors import ConfigurationError
from aisix_common.processes import Command, hold_lifeline
from aisix_common.service import Build, Lifecycle, Listener
from aisix_common.settings import Settings, load, refuse_unbuilt
from aisix_common.settings.loader import report
from aisix_common.tasks import TaskOwner
from aisix_common.version import VERSION
from aisix_common.workers import run_workers

from .app import Process, build

PROGRAM: Final = "aisix-proxy"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until told to stop. Returns the exit code: 0 after a drain, 1 when it cannot start."""
    hold_lifeline(os.environ)
    parser = argparse.ArgumentParser(prog=PROGRAM, description="The proxy of the AISIX AI gateway.")
    parser.add_argument("--config", metavar="FILE", required=True, help="the gateway's config.yaml")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {VERSION}")
    options = parser.parse_args(arguments)
    try:
        loaded = load(options.config, os.environ)
        refuse_unbuilt(loaded.settings)
    except ConfigurationError as error:
        text = report(error)
        sys.stderr.write(text if text.startswith("Error: ") else f"Error: {text}")
        sys.stderr.write("\n")
        return 1
    return run_workers(
        "proxy",
        loaded.settings,
        _build_for(loaded.settings),
        command=Command("proxy", "aisix_proxy", ("--config", options.config)),
        warnings=loaded.warnings,
    )


def _build_for(settings: Settings) -> Build:
    async def build_here(stack: AsyncExitStack, lifecycle: Lifecycle, tasks: TaskOwner) -> Sequence[Listener]:
        """What the frame builds the service with."""
        assert lifecycle.log_writer is not None  # the frame made it
        process = Process(os.environ, lifecycle.log_writer, lifecycle.worker)
        return await build(settings, process, stack, lifecycle, tasks)

    return build_here


if __name__ == "__main__":
    sys.exit(main())
