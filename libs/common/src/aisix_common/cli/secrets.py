"""`aisix secrets COMMAND`: make a key, look at what is stored, encrypt it anew. Imported only when it is asked for.

What a command was asked for goes to stdout, everything else to stderr. Exit codes: 0 when all is well, 1 when something
is left to be done, 2 for a wrong command line, 130 when it was interrupted.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from aisix_common.errors import ConfigurationError, StoreError
from aisix_common.secrets.envelope import new_key
from aisix_common.settings.loader import report
from aisix_common.streams import open_closed_streams

from .local_key import write_key
from .stored import add_config

SUMMARY: Final = "Keys for stored secrets, and the secrets that are stored."
_INTERRUPTED: Final = 130


def main(arguments: Sequence[str]) -> int:
    """Run the command and give its exit code."""
    open_closed_streams()
    options = _parser().parse_args(arguments)
    try:
        if options.command == "generate-key":
            return _generate(options.output)
        if options.command == "status":
            from .secrets_status import main as status

            return status(options.config, json=options.json)
        from .reencrypt import main as reencrypt

        return reencrypt(options.config)
    except ConfigurationError as error:
        sys.stderr.write(f"{report(error)}\n")
    except StoreError as error:
        sys.stderr.write(f"Error: etcd: {error}\n")
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: what was done stays done, and the same command goes on from there\n")
        return _INTERRUPTED
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aisix secrets", description=SUMMARY, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    generate = commands.add_parser(
        "generate-key",
        help="make a key for secrets.keyring",
        description="Make a key for secrets.keyring.",
        allow_abbrev=False,
    )
    generate.add_argument(
        "-o", "--output", metavar="FILE", help="write to FILE, mode 0600, which must not be there yet; default: stdout"
    )
    status = commands.add_parser(
        "status",
        help="say which keys the stored secrets are encrypted with",
        description="Say which keys the stored secrets are encrypted with, and which do not open. Reads only.",
        allow_abbrev=False,
    )
    add_config(status)
    status.add_argument("--json", action="store_true", help="as JSON")
    reencrypt = commands.add_parser(
        "reencrypt",
        help="encrypt every stored secret with the first key",
        description="Encrypt every stored secret with the first key of secrets.keyring, also those in clear. Other "
        "writers may go on; when it was interrupted, the same command goes on from there.",
        allow_abbrev=False,
    )
    add_config(reencrypt)
    return parser


def _generate(output: str | None) -> int:
    if output is None:
        sys.stdout.write(f"{new_key()}\n")
        sys.stdout.flush()
    else:
        try:
            write_key(Path(output))
        except FileExistsError:
            sys.stderr.write(f"Error: {output} is there already, and a key is never overwritten\n")
            return 1
        except OSError as error:
            sys.stderr.write(f"Error: cannot write {output}: {error.strerror}\n")
            return 1
    sys.stderr.write(
        "Keep a copy of the key: without it, what it encrypted is lost.\n"
        "First key: add {id: <a name>, file: <its file>} to secrets.keyring of every service, and restart them.\n"
        "Next key: append it everywhere and restart, move it to the front and restart, then run\n"
        "`aisix secrets reencrypt`, which says which keys may be removed.\n"
    )
    return 0
