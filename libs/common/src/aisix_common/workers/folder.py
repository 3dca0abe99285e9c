"""The private folder of a fleet's sockets: there as long as its owner lives, and swept up by the next one otherwise.

The owner holds a lock on a file in the folder, which the kernel lets go of however the owner ends. Process ids would
not do: in another container with the same place for temporary files they belong to other processes.
"""

import fcntl
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

PREFIX: Final = "aisix-fleet-"
LOCK: Final = "lock"
LONGEST_PLACE: Final = 60
"""Bytes for the path the folder is made in; with the socket in it a path may hold 104 on macOS, 108 on Linux."""


@contextmanager
def private_folder(where: Path | None = None) -> Iterator[Path]:
    """A new folder in `where` that only we can enter; gone afterwards, and what others left there before.

    Without `where` it is the system's place for temporary files, or `/tmp` when that has a long path. Raises OSError.
    """
    where = where or _short_place()
    _sweep(where)
    # Locked before it gets the name that is swept up.
    making = Path(tempfile.mkdtemp(prefix="aisix-", dir=where))
    try:
        with closing(_Lock(making / LOCK)):
            folder = making.rename(where / f"{PREFIX}{secrets.token_hex(4)}")
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _short_place() -> Path:
    where = tempfile.gettempdir()
    return Path(where if len(os.fsencode(where)) <= LONGEST_PLACE else "/tmp")  # noqa: S108


def _sweep(where: Path) -> None:
    """Remove the folders of our user whose owner is gone; one that cannot be looked at is left alone."""
    for folder in where.glob(f"{PREFIX}*"):
        try:
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                continue
            with closing(_Lock(folder / LOCK)):
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # its owner lives, or somebody else is sweeping


class _Lock:
    """A lock on a file, until it is closed or the process ends. Raises OSError when somebody else holds it."""

    def __init__(self, path: Path) -> None:
        # Not inherited by processes that are started: a worker must not hold it.
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            raise

    def close(self) -> None:
        os.close(self._fd)
