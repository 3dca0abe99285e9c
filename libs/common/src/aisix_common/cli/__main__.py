"""`aisix --config FILE`: check the configuration once, then run the services it asks for until they end.

`aisix validate`, `aisix export` and `aisix secrets` are commands of their own (`COMMANDS`), imported when they are
asked for.

Exit codes: 0 after a clean stop, 1 when the configuration or a start fails, 2 for a wrong command line, else the exit
code of the service that ended early. The cloud agent is no such service: it is started again.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Final

from aisix_common.errors import ConfigurationError
from aisix_common.processes import Command, hold_lifeline
from aisix_common.settings import load
from aisix_common.settings.files import refuse_unreadable
from aisix_common.settings.loader import SUPERVISED, report
from aisix_common.settings.notices import severity
from aisix_common.settings.sources import locate
from aisix_common.streams import open_closed_streams
from aisix_common.version import VERSION

from .local_key import provided
from .notes import Notes, notes_for
from .services import SERVICES, Service
from .supervisor import Start, supervise

COMMANDS: Final = MappingProxyType(
    {
        "validate": "validate --resources FILE        check a resources file",
        "export": "export --etcd EP[,EP...]         write what etcd holds as a resources file",
        "secrets": "secrets COMMAND                  make keys, look at stored secrets, encrypt them anew",
    }
)
"""Command, which is its module's name here, and its line in the help."""


def main(arguments: Sequence[str] | None = None, services: Sequence[Service] = SERVICES) -> int:
    """Run the command and give its exit code. `arguments` without the program's name; default: those of the process."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in COMMANDS:
        command = import_module(f"aisix_common.cli.{arguments[0]}")
        code: int = command.main(arguments[1:])
        return code
    open_closed_streams()
    hold_lifeline(os.environ)
    environ = {name: text for name, text in os.environ.items() if name != SUPERVISED}
    try:
        path = locate(_config_path(arguments, environ))
        loaded = load(path, environ)
        refuse_unreadable(loaded.settings)
    except ConfigurationError as error:
        Notes().fail(report(error))
        return 1
    notes = notes_for(loaded.settings.observability)
    for warning in loaded.warnings:
        notes.say(severity(warning), warning)
    try:
        environ = {**_without(environ, keys := provided(loaded.settings, notes)), **keys}
    except ConfigurationError as error:
        notes.fail(report(error))
        return 1
    wanted = [service for service in services if service.wanted(loaded.settings)]
    managed = "; managed from the Cloud: no admin API, no playground" if loaded.settings.managed.enabled else ""
    notes.say("info", f"version {VERSION} starts {', '.join(service.name for service in wanted)} with {path}{managed}")
    starts = [_start(service, path, environ) for service in wanted]
    return supervise(starts, notes, reloads=loaded.settings.resources_file is not None)


def _config_path(arguments: Sequence[str], environ: Mapping[str, str]) -> Path:
    parser = argparse.ArgumentParser(
        prog="aisix",
        description="Run the AISIX AI gateway, the proxy and the admin API (in managed mode: the cloud agent), until "
        "SIGINT or SIGTERM.",
        epilog="Every setting can be overridden by an environment variable: AISIX_PROXY__ADDR sets proxy.addr.\n\n"
        "Other commands, each with a --help of its own:\n" + "\n".join(f"  aisix {each}" for each in COMMANDS.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        help="configuration (.yaml, .yml, .json or .toml); default: the environment variable AISIX_CONFIG",
    )
    parser.add_argument("--version", action="version", version=f"aisix {VERSION}")
    given: str = parser.parse_args(arguments).config or environ.get("AISIX_CONFIG", "")
    if not given:
        parser.error("the following argument is required: -c/--config FILE (or set AISIX_CONFIG)")
    return Path(given)


def _start(service: Service, path: Path, environ: Mapping[str, str]) -> Start:
    """What to run for `service`."""
    kept = _without(environ, service.environ)
    return Start(
        Command(service.name, service.module, ("--config", str(path))),
        {**kept, **service.environ, SUPERVISED: "1"},
        service.restarts,
    )


def _without(environ: Mapping[str, str], overridden: Mapping[str, str]) -> dict[str, str]:
    """`environ` without what is set anew. Names of settings are case-insensitive, so every spelling of one goes."""
    return {name: text for name, text in environ.items() if name.upper() not in overridden}


if __name__ == "__main__":
    sys.exit(main())
