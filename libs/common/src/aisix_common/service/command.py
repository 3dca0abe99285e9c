"""What `python -m <service> --config FILE` does before the service runs: arguments, configuration, failures."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import TypeAlias

from ..errors import AisixError, ConfigurationError
from ..processes import hold_lifeline
from ..settings import Loaded, load
from ..settings.loader import report
from ..streams import open_closed_streams
from ..version import VERSION

Run: TypeAlias = Callable[[], int]
"""Runs the service until it is told to stop; returns the exit code."""


def service_command(
    program: str,
    description: str,
    prepare: Callable[[str, Loaded], Run],
    arguments: Sequence[str] | None = None,
) -> int:
    """Run the service that `prepare` makes of the path and the content of its configuration.

    Returns the process exit code: what the service returned, or 1 with the reason on stderr when the configuration
    cannot be loaded or `prepare` raised an error of ours.
    """
    open_closed_streams()
    hold_lifeline(os.environ)
    parser = argparse.ArgumentParser(prog=program, description=description)
    default = os.environ.get("AISIX_CONFIG") or None
    parser.add_argument(
        "--config",
        metavar="FILE",
        default=default,
        required=default is None,
        help="the gateway's config.yaml; default: the environment variable AISIX_CONFIG",
    )
    parser.add_argument("--version", action="version", version=f"{program} {VERSION}")
    options = parser.parse_args(arguments)
    try:
        loaded = load(options.config, os.environ)
        run = prepare(options.config, loaded)
    except AisixError as error:
        text = report(error) if isinstance(error, ConfigurationError) else str(error)
        if sys.stderr is not None:  # as it is where descriptor 2 was closed
            sys.stderr.write(text if text.startswith("Error: ") else f"Error: {text}")
            sys.stderr.write("\n")
        return 1
    return run()
