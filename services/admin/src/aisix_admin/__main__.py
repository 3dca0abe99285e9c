"""`python -m aisix_admin --config FILE`: the admin service as a process of its own."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Final

from aisix_common.errors import ConfigurationError
from aisix_common.service import run_service
from aisix_common.settings import load, refuse_unbuilt
from aisix_common.settings.loader import report
from aisix_common.version import VERSION

from .app import build_for

PROGRAM: Final = "aisix-admin"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until told to stop. Returns the exit code: 0 after a drain, 1 when it cannot start."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description="The admin API of the AISIX AI gateway.")
    parser.add_argument("--config", metavar="FILE", required=True, help="the gateway's config.yaml")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {VERSION}")
    options = parser.parse_args(arguments)
    try:
        loaded = load(options.config, os.environ)
        refuse_unbuilt(loaded.settings)
        build = build_for(loaded.settings, os.environ)
    except ConfigurationError as error:
        text = report(error)
        sys.stderr.write(text if text.startswith("Error: ") else f"Error: {text}")
        sys.stderr.write("\n")
        return 1
    return run_service("admin", loaded.settings, build, warnings=loaded.warnings)


if __name__ == "__main__":
    sys.exit(main())
