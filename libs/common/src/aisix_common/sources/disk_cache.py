"""The snapshot on disk: what lets a service start while etcd is away (design 5).

Written at most once a second, in a thread, mode 0600: changes are appended, and the file is replaced as a whole when it
has grown to twice its base. With a keyring it is encrypted, and files in clear from before are deleted. Whatever goes
wrong with the file is logged and the service goes on without it. One process writes one file: a worker's has its number
added to the name. But each reads them all and takes the newest, so that a start after `proxy.workers` was changed
serves what was known last, and all workers the same.
"""

import asyncio
import os
import re
import stat
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aisix_common.logs import Logger
from aisix_common.snapshot import Snapshot

from .cache_log import Batch, Cached, CacheUnusable, InClear, base, changed_rows, decode, header, record
from .sealing import PLAIN, Sealer

SECONDS_BETWEEN_WRITES: Final = 1.0
SECONDS_AFTER_FAILURE: Final = 30.0
SMALLEST_LOG: Final = 1 << 20
"""Bytes of changes that are kept before the file is replaced, however small its base is."""
LARGEST_FILE: Final = 2 << 30


@dataclass(slots=True)
class _File:
    """The file as this process left it; anything else found there means somebody meddled."""

    inode: int
    size: int
    base_size: int
    records: int


class DiskCache:
    """The cache file of one process, for one prefix.

    `path` as configured; the file of the worker with number `worker` is `<path>.<worker>`.
    """

    def __init__(
        self, path: Path | str, prefix: str, log: Logger, sealer: Sealer = PLAIN, *, worker: int | None = None
    ) -> None:
        self._shared = Path(path)
        """The file of a process without workers; theirs begin with its name."""
        self._path = self._shared if worker is None else self._shared.with_name(f"{self._shared.name}.{worker}")
        self._prefix = prefix.rstrip("/")
        self._log = log
        self._sealer = sealer
        self._snapshot: Snapshot | None = None
        self._keys: set[str] | None = set()
        """What changed since the last write; None: everything."""
        self._noted = asyncio.Event()
        self._file: _File | None = None
        self._failed = False
        self._lock = threading.Lock()
        """One write at a time, also when the last one of a stopping service meets one that is under way."""

    def load(self) -> Cached | None:
        """The newest that this process's file and those beside it hold, its own where others are not newer.

        None where there is nothing to be used (logged, but for missing files). Reads the disk: call it in a thread.
        """
        newest, origin = self._load(self._path), self._path
        for path in self._others(r"(\.[0-9]+)?\.tmp"):
            self._remove_if_clear(path)
        for path in self._others(r"(\.[0-9]+)?"):
            other = self._load(path)
            if other is not None and (newest is None or other.listing.revision > newest.listing.revision):
                newest, origin = other, path
        if newest is not None and newest.torn:
            self._log.warning("the end of the snapshot cache is damaged and left out", path=str(origin))
        if newest is not None and origin != self._path:
            self._log.info("the snapshot cache of another process is newer and is used", path=str(origin))
        return newest

    def _others(self, ending: str) -> list[Path]:
        """What other processes wrote: with another number, or before `proxy.workers` was changed. `ending`: a regular
        expression of what follows the shared name."""
        name = re.compile(re.escape(self._shared.name) + ending)
        try:
            found = sorted(entry for entry in os.listdir(self._shared.parent) if name.fullmatch(entry))
        except OSError:  # no folder, or none that may be listed: its own file is what there is
            return []
        return [self._shared.with_name(entry) for entry in found if entry != self._path.name]

    def _load(self, path: Path) -> Cached | None:
        try:
            return decode(self._read(path), self._prefix, self._sealer)
        except FileNotFoundError:
            return None
        except InClear as error:
            self._remove(path, str(error))
        except CacheUnusable as error:
            self._log.warning("the snapshot cache is not used", path=str(path), reason=str(error))
        except (OSError, MemoryError) as error:
            reason = getattr(error, "strerror", None) or "out of memory"
            self._log.warning("the snapshot cache cannot be read", path=str(path), reason=reason)
        return None

    def _remove_if_clear(self, path: Path) -> None:
        """Delete what a write that was cut short left in clear."""
        try:
            decode(self._read(path), self._prefix, self._sealer)
        except InClear as error:
            self._remove(path, str(error))
        except (OSError, MemoryError, CacheUnusable):
            pass  # nothing is lost or shown by leaving it there

    def _remove(self, path: Path, reason: str) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            self._log.error(
                "the snapshot cache holds secrets in clear and cannot be deleted: delete it by hand",
                path=str(path),
                reason=error.strerror,
            )
        else:
            self._log.warning("the snapshot cache is not used and was deleted", path=str(path), reason=reason)

    def note(self, snapshot: Snapshot, keys: Iterable[str] | None) -> None:
        """Remember that `snapshot` is to be written; `keys` are what changed since the last one noted, None: all.

        Returns at once. Bounded by one snapshot and its keys.
        """
        self._snapshot = snapshot
        if keys is None or self._keys is None:
            self._keys = None
        else:
            self._keys.update(keys)
        self._noted.set()

    async def run(self) -> None:
        """Write what was noted, at most once a second, until cancelled; then once more."""
        try:
            while True:
                await self._noted.wait()
                written = await self.flush()
                await asyncio.sleep(SECONDS_BETWEEN_WRITES if written else SECONDS_AFTER_FAILURE)
        finally:
            await self.flush()

    async def flush(self) -> bool:
        """Write what was noted, in a thread; whether that went well."""
        snapshot, keys = self._snapshot, self._keys
        if snapshot is None or not self._noted.is_set():
            return True
        self._keys = set()
        self._noted.clear()
        try:
            await asyncio.to_thread(self._write, snapshot, keys)
        except OSError as error:
            self._keys = None
            self._noted.set()
            if not self._failed:
                self._log.error(
                    "the snapshot cache cannot be written: a restart without etcd would serve an older state",
                    path=str(self._path),
                    reason=error.strerror,
                    hint="make its folder writable and leave room on the disk, or set managed.snapshot_cache_path",
                )
            self._failed = True
            return False
        except asyncio.CancelledError:
            self._keys = None  # the thread goes on; whether it succeeded is not known here
            self._noted.set()
            raise
        if self._failed:
            self._log.info("the snapshot cache is written again", path=str(self._path))
        self._failed = False
        return True

    def _write(self, snapshot: Snapshot, keys: set[str] | None) -> None:
        """In a thread. Raises OSError, after which the file may be torn: the next write replaces it."""
        with self._lock:
            file, self._file = self._file, None
            if file is None or keys is None or file.size - file.base_size > max(2 * file.base_size, SMALLEST_LOG):
                self._file = self._replace(snapshot)
            else:
                self._file = self._append(file, snapshot, keys)

    def _replace(self, snapshot: Snapshot) -> _File:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = self._path.with_name(self._path.name + ".tmp")
        unfinished.unlink(missing_ok=True)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            size = records = -1
            for piece in base(snapshot, self._prefix, self._sealer):
                stream.write(piece)
                records += 1
            size = stream.tell()
            stream.flush()
            os.fsync(stream.fileno())
            inode = os.fstat(stream.fileno()).st_ino
        os.replace(unfinished, self._path)
        self._sync_folder()
        return _File(inode, size, size, records)

    def _append(self, file: _File, snapshot: Snapshot, keys: set[str]) -> _File:
        batch = Batch("changes", snapshot.revision, changed_rows(snapshot, sorted(keys)))
        piece = record(batch, file.records, header(self._prefix, self._sealer), self._sealer)
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
        except FileNotFoundError:
            return self._replace(snapshot)
        with os.fdopen(descriptor, "ab") as stream:
            found = os.fstat(stream.fileno())
            if (found.st_ino, found.st_size) == (file.inode, file.size):
                stream.write(piece)
                stream.flush()
                os.fsync(stream.fileno())
                return _File(file.inode, file.size + len(piece), file.base_size, file.records + 1)
        return self._replace(snapshot)  # another process wrote here

    def _sync_folder(self) -> None:
        """Make the new name last through a power cut."""
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _read(self, path: Path) -> bytes:
        """The bytes of a file, if nobody else can have written them. Raises OSError, CacheUnusable."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            found = os.fstat(stream.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise CacheUnusable("it is no regular file")
            if found.st_mode & 0o022 or found.st_uid not in (os.geteuid(), 0):
                raise CacheUnusable("others can write it: give it to this user with mode 0600, or delete it")
            if found.st_size > LARGEST_FILE:
                raise CacheUnusable("it is too large")
            if found.st_mode & 0o044:
                self._log.warning("others could read the snapshot cache: mode set to 0600", path=str(path))
                os.fchmod(stream.fileno(), 0o600)
            return stream.read()
