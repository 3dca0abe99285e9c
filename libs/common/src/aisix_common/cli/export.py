"""`aisix export --etcd EP[,EP]`: what etcd holds, as a resources file. Reads only. Imported only when it is asked for.

The file goes to stdout or to a file of mode 0600, everything else to stderr; with issues it is written all the same,
and the exit code is 1.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Final

from aisix_common.errors import ConfigurationError, StoreError
from aisix_common.files.export import Export, export
from aisix_common.resources import SECRET_PROVIDERS
from aisix_common.secrets.envelope import NO_KEYRING
from aisix_common.settings.loader import report
from aisix_common.settings.storage import Etcd
from aisix_common.store.client import EtcdClient, EtcdOptions
from aisix_common.store.types import Listing
from aisix_common.streams import open_closed_streams

from .stored import keyring_of, listed, settings_of

SUMMARY: Final = "Write what etcd holds as a resources file."


def main(arguments: Sequence[str]) -> int:
    """Run the command; 0 when the file says all that etcd holds, 1 when not, 2 for a wrong command line."""
    open_closed_streams()
    options = _parser().parse_args(arguments)
    endpoints = tuple(part.strip() for part in options.etcd.split(",") if part.strip())
    prefix = options.prefix.rstrip("/")
    try:
        keyring = keyring_of(settings_of(options.config)) if options.config else NO_KEYRING
    except ConfigurationError as error:
        sys.stderr.write(f"{report(error)}\n")
        return 1
    try:
        listing, providers = asyncio.run(_listing(endpoints, prefix))
    except (StoreError, ConfigurationError) as error:
        return _fail(f"etcd cannot be read: {error}")
    made = export(listing.rows, prefix, reveal=options.reveal_secrets, keyring=keyring)
    if providers:
        made.notes.append(
            f"secret_providers: {providers} row(s) left out: where a file is used, they are in secrets.providers"
        )
    try:
        _write(made.text.encode(), options.output)
    except OSError as error:
        return _fail(f"cannot write {options.output or 'to stdout'}: {error.strerror}")
    sys.stderr.write("".join(f"{line}\n" for line in told(made)))
    return 0 if made.sound else 1


def told(made: Export) -> Iterator[str]:
    """What goes to stderr, line by line."""
    counts = ", ".join(f"{count} {kind}" for kind, count in made.counts.items())
    yield f"exported {sum(made.counts.values())} resource(s){f': {counts}' if counts else ''}"
    yield from (f"rejected: {line}" for line in made.rejected)
    yield from (f"blocking: {line}" for line in made.blocking)
    yield from (f"note: {line}" for line in made.notes)
    if made.placeholders:
        yield "set these variables where the file is loaded:"
        yield from (f"  {name}" for name in made.placeholders)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aisix export", description=SUMMARY, allow_abbrev=False)
    parser.add_argument("--etcd", metavar="EP[,EP...]", required=True, help="endpoints of etcd, as host:port or URLs")
    parser.add_argument("--prefix", default="/aisix", help="the root of the resource keys; default: /aisix")
    parser.add_argument(
        "--reveal-secrets", action="store_true", help="write secrets in clear, in place of variables to be set"
    )
    parser.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        help="the gateway's configuration, of which secrets.keyring is used: secrets that are encrypted open with it",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="write to FILE, mode 0600, instead of stdout")
    return parser


async def _listing(endpoints: tuple[str, ...], prefix: str) -> tuple[Listing, int]:
    """All rows under `prefix`, and how many secret providers there are. Raises StoreError, ConfigurationError."""
    async with EtcdClient(EtcdOptions(endpoints=endpoints)) as client:
        listing = await listed(client, f"{prefix}/")
        providers = await client.range(f"{Etcd(prefix=prefix).ext_root}/{SECRET_PROVIDERS.name}/", limit=1)
        return listing, providers.count


def _write(text: bytes, path: str | None) -> None:
    if path is None:
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()
        return
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        os.fchmod(fd, 0o600)  # also where the file was there before
        file.write(text)


def _fail(message: str) -> int:
    sys.stderr.write(f"Error: {message}\n")
    return 1
