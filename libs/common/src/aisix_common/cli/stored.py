"""What the commands on stored resources share: the settings and keyring of a gateway, and its rows of etcd."""

import argparse
import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aisix_common.errors import ConfigurationError, Problem, StoreError
from aisix_common.resources import EXTERNAL_KINDS, KINDS, Kind
from aisix_common.secrets.envelope import Keyring
from aisix_common.secrets.keyring_files import read_keys
from aisix_common.settings import Settings, load
from aisix_common.settings.sources import locate
from aisix_common.settings.storage import Etcd
from aisix_common.store.client import EtcdClient
from aisix_common.store.types import KeyValue, Listing
from aisix_common.store.watch import list_all

from .local_key import keys_of

ATTEMPTS: Final = 3
PAUSE_SECONDS: Final = 1.0
SHOWN: Final = 20
"""Rows that are named; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Row:
    """One resource as it is stored."""

    kind: Kind[Any]
    id: str
    stored: KeyValue


@dataclass(frozen=True, slots=True)
class Rows:
    """All resources of a gateway."""

    rows: tuple[Row, ...]
    foreign: int
    """Rows under its roots that are of no kind known to this build."""


def add_config(parser: argparse.ArgumentParser) -> None:
    """The option that names the configuration."""
    parser.add_argument(
        "-c", "--config", metavar="FILE", required=True, help="the gateway's configuration: etcd and secrets.keyring"
    )


def settings_of(path: str, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings that services read from this file. Raises ConfigurationError, also where nothing is in etcd."""
    settings = load(locate(Path(path)), environ).settings
    if settings.resources_file is not None:
        raise ConfigurationError([Problem("resources_file", "resources come from a file: nothing is stored in etcd")])
    return settings


def keyring_of(settings: Settings, environ: Mapping[str, str] = os.environ) -> Keyring:
    """The keyring of a gateway of these settings, also where `aisix` made it. Raises ConfigurationError."""
    return read_keys(keys_of(settings), environ).keyring


async def listed(client: EtcdClient, prefix: str) -> Listing:
    """All rows under `prefix`, tried a few times. Raises StoreError."""
    for _ in range(ATTEMPTS - 1):
        try:
            return await list_all(client, prefix)
        except StoreError:
            await asyncio.sleep(PAUSE_SECONDS)
    return await list_all(client, prefix)


async def all_rows(client: EtcdClient, etcd: Etcd) -> Rows:
    """Every resource under the resource root and the ext root. Raises StoreError."""
    found: list[Row] = []
    foreign = 0
    for root, kinds in ((etcd.resource_root, KINDS), (etcd.ext_root, EXTERNAL_KINDS)):
        by_name = {kind.name: kind for kind in kinds}
        for stored in (await listed(client, f"{root}/")).rows:
            name, _, id = stored.key.removeprefix(f"{root}/").partition("/")
            kind = by_name.get(name)
            if kind is None or not id:
                foreign += 1
            else:
                found.append(Row(kind, id, stored))
    return Rows(tuple(found), foreign)


def named(head: str, rows: Mapping[str, str]) -> list[str]:
    """Lines that name the first rows of a kind of trouble, with the reason of each."""
    if not rows:
        return []
    lines = [f"{len(rows)} row(s) {head}:"]
    lines += [f"  {row}: {reason}" for row, reason in list(rows.items())[:SHOWN]]
    if len(rows) > SHOWN:
        lines.append(f"  ... and {len(rows) - SHOWN} more")
    return lines
