"""`aisix secrets status`: which keys the stored secrets are encrypted with, and what does not open. Reads only."""

import asyncio
import os
import sys
from collections.abc import Iterator
from itertools import islice

import msgspec

from aisix_common.secrets.canary import canary_key, canary_of, verify
from aisix_common.secrets.census import Census, Tally
from aisix_common.secrets.envelope import Keyring
from aisix_common.settings import Settings
from aisix_common.store.client import EtcdClient, etcd_options

from .stored import SHOWN, all_rows, keyring_of, named, settings_of


class Trouble(msgspec.Struct, frozen=True):
    """How many rows have it, and the first of them with the reason."""

    rows: int
    first: dict[str, str]


class Status(msgspec.Struct, frozen=True):
    """What `--json` prints."""

    sound: bool
    """Whether all is as the configuration wants it: the exit code."""
    keyring: tuple[str, ...]
    """Ids of the configured keys; the first one encrypts."""
    canary: str | None
    """The key that the canary row is encrypted with; None where there is no such row, or it is damaged."""
    refused: str | None
    """Why services with this keyring refuse to store secrets."""
    rows: int
    keys: dict[str, Tally]
    clear: Tally
    references: Tally
    unopened: Trouble
    unreadable: Trouble
    foreign: int
    """Rows of no kind that is known here; not looked at."""


def main(config: str, *, json: bool = False) -> int:
    """Run the command; 1 when something does not open, or is in clear although there is a keyring.

    Raises ConfigurationError, StoreError.
    """
    settings = settings_of(config)
    keyring = keyring_of(settings)
    status, census = asyncio.run(_status(settings, keyring))
    text = msgspec.json.encode(status).decode() if json else "\n".join(told(status, census))
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
    return 0 if status.sound else 1


async def _status(settings: Settings, keyring: Keyring) -> tuple[Status, Census]:
    async with EtcdClient(etcd_options(settings.etcd, os.environ)) as client:
        found = await all_rows(client, settings.etcd)
        row = await client.get(canary_key(settings.etcd.run_root))
    census = Census()
    for each in found.rows:
        census.add(each.stored.key, each.kind, each.id, each.stored.value, keyring)
    return status_of(census, keyring, row.value if row else None, found.foreign), census


def status_of(census: Census, keyring: Keyring, canary: bytes | None, foreign: int = 0) -> Status:
    """The status of what was found. Pure."""
    refused = verify(canary, keyring) if canary is not None else None
    troubled = census.unopened or census.unreadable or refused or (keyring and census.clear.rows)
    return Status(
        sound=not troubled,
        keyring=keyring.ids,
        canary=canary_of(canary) if canary is not None else None,
        refused=refused,
        rows=census.rows,
        keys=dict(sorted(census.keys.items())),
        clear=census.clear,
        references=census.references,
        unopened=_trouble(census.unopened),
        unreadable=_trouble(census.unreadable),
        foreign=foreign,
    )


def told(status: Status, census: Census) -> Iterator[str]:
    """The same in words."""
    first, *others = status.keyring or ("",)
    also = f"; {', '.join(others)} only decrypt(s)" if others else ""
    yield f"keyring: {first} encrypts{also}" if first else "keyring: none is configured (secrets.keyring)"
    yield f"canary row: {f'encrypted with {status.canary}' if status.canary else 'none'}"
    if status.refused:
        yield f"  services with this keyring refuse to store secrets: {status.refused}"
    yield f"{status.rows} row(s); of their secrets are"
    for key, tally in status.keys.items():
        unknown = "" if key in status.keyring else " (not in the keyring)"
        yield f"  encrypted with {key or '?'}: {_counted(tally)}{unknown}"
    yield f"  in clear: {_counted(status.clear)}"
    yield f"  references: {_counted(status.references)}"
    yield from named("hold secrets that do not open", census.unopened)
    yield from named("cannot be read as their kind", census.unreadable)
    if status.foreign:
        yield f"{status.foreign} row(s) of kinds that are not known here were not looked at"
    if status.keyring and (status.clear.rows or set(status.keys) - {first}):
        yield "`aisix secrets reencrypt` encrypts all that opens with the first key"


def _counted(tally: Tally) -> str:
    return f"{tally.values} in {tally.rows} row(s)" if tally.values else "none"


def _trouble(rows: dict[str, str]) -> Trouble:
    return Trouble(len(rows), dict(islice(rows.items(), SHOWN)))
