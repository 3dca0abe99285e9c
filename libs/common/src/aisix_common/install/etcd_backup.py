"""Takes a snapshot of etcd into a folder, checks it, and keeps the newest ones.

A snapshot is the file that `etcdctl snapshot save` writes: `etcdutl snapshot restore` takes it (docs/guides/etcd.md).
"""

import base64
import hashlib
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from .etcd_api import Broken, EtcdApi, Refused
from .progress import Failed

NAME: Final = re.compile(r"aisix-\d{8}T\d{6}Z\.db")
_UNFINISHED: Final = ".unfinished"
_PAGE: Final = 512
"""The database is whole pages; the digest behind it is not."""


def back_up(etcd: EtcdApi, folder: Path, keep: int, now: datetime, say: Callable[[str], None]) -> Path:
    """Write a snapshot into `folder` and delete all but the newest `keep`; its path. Raises Failed."""
    target = folder / f"aisix-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}.db"
    part = target.with_name(target.name + _UNFINISHED)
    try:
        for left in folder.glob(f"aisix-*{_UNFINISHED}"):
            left.unlink()
        size = _fetched(etcd, part, say)
        check(part)
        part.replace(target)
        _flush(folder)
        say(f"{target.name}: {size / (1 << 20):.1f} MiB, checked")
        old = sorted(each for each in folder.iterdir() if NAME.fullmatch(each.name))[:-keep]
        for each in old:
            each.unlink()
            say(f"{each.name}: deleted, {keep} newer ones are kept")
    except Refused as refused:
        raise Failed(f"etcd gave no snapshot: {refused}")
    except OSError as error:
        raise Failed(f"{error.filename or folder}: {error.strerror}: see whether the volume is mounted, and has room")
    return target


def check(path: Path) -> None:
    """Raises Failed: not a whole snapshot. Raises OSError."""
    size = path.stat().st_size
    length = hashlib.sha256().digest_size
    if size % _PAGE != length or size <= length:
        raise Failed(f"{path.name} is no snapshot, or not all of one: {size} bytes")
    left = size - length
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while left:
            piece = file.read(min(left, 1 << 20))
            digest.update(piece)
            left -= len(piece)
        if file.read() != digest.digest():
            raise Failed(f"{path.name} is damaged: its digest is another one")


def _fetched(etcd: EtcdApi, path: Path, say: Callable[[str], None]) -> int:
    """Of whichever member gives it: when one is away a backup is wanted most. Raises Failed as the last one did."""
    *others, last = etcd.endpoints
    for member in others:
        try:
            return _fetch(etcd, path, member)
        except Broken as broken:
            say(f"{broken.what}: the next member is asked")
            path.unlink(missing_ok=True)
    return _fetch(etcd, path, last)


def _fetch(etcd: EtcdApi, path: Path, member: str) -> int:
    with path.open("xb") as file:
        for piece in etcd.pieces("/v3/maintenance/snapshot", {}, member):
            file.write(base64.b64decode(piece.get("blob", "")))
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
