"""`python -m aisix_admin --config FILE`: the admin service as a process of its own."""

import os
import sys
from collections.abc import Sequence
from typing import Final

from aisix_common.service import run_service
from aisix_common.service.command import Run, service_command
from aisix_common.settings import Loaded

from .app import build_for

PROGRAM: Final = "aisix-admin"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until told to stop. Returns the exit code: 0 after a drain, 1 when it cannot start."""
    return service_command(PROGRAM, "The admin API of the AISIX AI gateway.", _prepare, arguments)


def _prepare(path: str, loaded: Loaded) -> Run:
    build = build_for(loaded.settings, os.environ)
    return lambda: run_service("admin", loaded.settings, build, warnings=loaded.warnings)


if __name__ == "__main__":
    sys.exit(main())
