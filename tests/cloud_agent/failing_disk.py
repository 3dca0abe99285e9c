"""A disk that fails at a chosen call: with an error, or as if the process had been killed there."""

import errno
import os
from pathlib import Path

from aisix_cloud_agent.identity.disk import Disk


class Killed(BaseException):
    """From here on nothing happens any more, no matter who catches this."""


class FailingDisk(Disk):
    """`fails_at`: number of the call, from 0, that does not happen; `kill`: nor does any after it. What was called is
    in `calls`. A write that fails has written its first half."""

    def __init__(self, fails_at: int | None = None, *, kill: bool = False) -> None:
        self.calls: list[str] = []
        self._fails_at = fails_at
        self._kill = kill

    def make_folder(self, path: Path) -> None:
        self._next(f"make_folder {path.name}")
        super().make_folder(path)

    def create(self, path: Path) -> int:
        self._next(f"create {path.name}")
        return super().create(path)

    def write(self, descriptor: int, data: bytes) -> int:
        try:
            self._next("write")
        except BaseException:
            if len(self.calls) - 1 == self._fails_at:
                os.write(descriptor, data[: len(data) // 2])
            raise
        return super().write(descriptor, data[:1500])  # writes may be short

    def chmod(self, descriptor: int, mode: int) -> None:
        self._next(f"chmod {mode:o}")
        super().chmod(descriptor, mode)

    def sync(self, descriptor: int) -> None:
        self._next("sync")  # and no more: nobody pulls the plug, and it takes long

    def rename(self, old: Path, new: Path) -> None:
        self._next(f"rename {old.name} {new.name}")
        super().rename(old, new)

    def remove(self, path: Path) -> None:
        self._next(f"remove {path.name}")
        super().remove(path)

    def sync_folder(self, path: Path) -> None:
        self._next(f"sync_folder {path.name}")
        super().sync_folder(path)

    def _next(self, call: str) -> None:
        number = len(self.calls)
        self.calls.append(call)
        if self._fails_at is not None and (number == self._fails_at or (self._kill and number > self._fails_at)):
            if self._kill:
                raise Killed
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), call)
