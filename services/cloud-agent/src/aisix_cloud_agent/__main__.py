"""`python -m aisix_cloud_agent --config FILE`: the cloud agent as a process of its own."""

import os
import sys
from collections.abc import Sequence
from typing import Final

from aisix_common.service import run_service
from aisix_common.service.command import Run, service_command
from aisix_common.settings import Loaded

from .app import build_for

PROGRAM: Final = "aisix-cloud-agent"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until told to stop. Returns the exit code: 0 after it stopped, 1 when it cannot start."""
    return service_command(PROGRAM, "The cloud agent of the AISIX AI gateway.", _prepare, arguments)


def _prepare(path: str, loaded: Loaded) -> Run:
    build = build_for(loaded.settings, os.environ)
    return lambda: run_service("cloud-agent", loaded.settings, build, warnings=loaded.warnings)


if __name__ == "__main__":
    sys.exit(main())
