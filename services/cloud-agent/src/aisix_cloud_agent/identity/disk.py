"""Files that are written whole or not at all, and last through a power cut.

Every change goes through one of the small methods of `Disk`, so that a test can let each of them fail in turn.
"""

import contextlib
import os
from pathlib import Path


class Disk:
    """The calls that change something. All of them raise OSError."""

    def make_folder(self, path: Path) -> None:
        """A folder, where it is missing. Its files guard themselves: certificates may be read by others."""
        path.mkdir(mode=0o755, exist_ok=True)

    def create(self, path: Path) -> int:
        """A new file of mode 0600 that was not there; its descriptor. Never through a link that somebody left."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def write(self, descriptor: int, data: bytes) -> int:
        """How many of the bytes were written."""
        return os.write(descriptor, data)

    def chmod(self, descriptor: int, mode: int) -> None:
        """The mode, whatever the umask says."""
        os.fchmod(descriptor, mode)

    def sync(self, descriptor: int) -> None:
        """What was written lasts from here on."""
        os.fsync(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        """`old` takes the place of `new` in one step."""
        os.replace(old, new)

    def remove(self, path: Path) -> None:
        """The file is gone, also where there was none."""
        path.unlink(missing_ok=True)

    def sync_folder(self, path: Path) -> None:
        """The names in a folder last from here on."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.sync(descriptor)
        finally:
            os.close(descriptor)


def write_whole(disk: Disk, path: Path, text: str, mode: int) -> None:
    """Put `text` at `path`, with `mode` from its first moment there: whole, or what was there stays. Raises OSError."""
    unfinished = path.with_name(f".{path.name}.tmp")
    disk.remove(unfinished)
    descriptor = disk.create(unfinished)
    try:
        rest = memoryview(text.encode("utf-8", "replace"))
        while rest:
            rest = rest[disk.write(descriptor, bytes(rest)) :]
        disk.chmod(descriptor, mode)
        disk.sync(descriptor)
    except BaseException:
        with contextlib.suppress(OSError):  # the first failure is the one that is told
            disk.remove(unfinished)
        raise
    finally:
        os.close(descriptor)
    disk.rename(unfinished, path)
    disk.sync_folder(path.parent)


def ensure_folder(disk: Disk, path: Path) -> None:
    """Make a folder and those above it that are missing, so that they last. Raises OSError."""
    if not path.is_dir():
        ensure_folder(disk, path.parent)
        disk.make_folder(path)
        disk.sync_folder(path.parent)


def remove_whole(disk: Disk, path: Path) -> None:
    """Take a file away for good. Raises OSError."""
    if path.exists():
        disk.remove(path)
        disk.sync_folder(path.parent)
