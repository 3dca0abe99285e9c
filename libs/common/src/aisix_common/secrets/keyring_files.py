"""The keyring as `secrets.keyring` describes it: read from files and variables, and read again when a file changes.

A reload that fails keeps the keys that were there: a file that is being replaced must take no secret out of service.
"""

import asyncio
import hashlib
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from aisix_common.errors import ConfigurationError, Problem
from aisix_common.logs import Logger
from aisix_common.settings.control import KeyringKey

from .envelope import NO_KEYRING, Keyring, decode_key

LARGEST_FILE: Final = 4096
"""Bytes of a key file that are looked at; a key has 44."""

_Stamp: TypeAlias = tuple[int, int, int, int, int]
"""What tells whether a file is the one that was read: a link swapped for another shows in it, too."""


@dataclass(frozen=True, slots=True)
class ReadKeys:
    """What was read at one time."""

    keyring: Keyring
    exposed: tuple[str, ...] = ()
    """Files that every user of the machine can read."""
    digest: bytes = b""
    """Equal where ids and keys are. Tells nothing of them: keys are random."""
    stamps: tuple[_Stamp | None, ...] = ()


def read_keys(keys: Sequence[KeyringKey], environ: Mapping[str, str]) -> ReadKeys:
    """Read every key, in order. Blocks on the disk.

    Raises ConfigurationError with all that is wrong, at `secrets.keyring[n].file` or `.env`.
    """
    read: list[tuple[str, bytes]] = []
    exposed: list[str] = []
    stamps: list[_Stamp | None] = []
    problems: list[Problem] = []
    digest = hashlib.sha256()
    for place, key in enumerate(keys):
        source, name = ("file", key.file) if key.file else ("env", key.env or "")
        try:
            if key.file:
                text, found = _read(key.file)
                stamps.append(_stamp(found))
                if found.st_mode & stat.S_IROTH:
                    exposed.append(key.file)
            else:
                text = _variable(name, environ)
            secret = decode_key(text)
        except (OSError, ValueError) as error:
            said = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
            problems.append(Problem(f"secrets.keyring[{place}].{source}", f"{name} {said}"))
            continue
        read.append((key.id, secret))
        digest.update(hashlib.sha256(key.id.encode()).digest() + hashlib.sha256(secret).digest())
    if problems:
        raise ConfigurationError(problems)
    return ReadKeys(Keyring(read), tuple(exposed), digest.digest(), tuple(stamps))


class KeyringFiles:
    """The keyring of one process, from `load` on; `run` follows its files."""

    def __init__(
        self, keys: Sequence[KeyringKey], environ: Mapping[str, str], log: Logger, *, seconds: float = 2.0
    ) -> None:
        """`seconds`: how often the files are looked at."""
        self._keys = tuple(keys)
        self._environ = environ
        self._log = log
        self._seconds = seconds
        self._read = ReadKeys(NO_KEYRING)
        self._exposed: frozenset[str] = frozenset()
        self._failure = ""
        """What was wrong at the last look; said once."""

    @property
    def keyring(self) -> Keyring:
        """The keys as they were last read; empty before `load` and where none is configured."""
        return self._read.keyring

    def load(self) -> Keyring:
        """Read the keys for the first time. Raises ConfigurationError."""
        self._take(read_keys(self._keys, self._environ))
        return self.keyring

    async def run(self, on_change: Callable[[Keyring], None]) -> None:
        """Look at the files until cancelled; `on_change` gets the new keyring, in the loop, when the keys are others.

        Returns at once where no key comes from a file.
        """
        files = [key.file for key in self._keys if key.file]
        while files:
            await asyncio.sleep(self._seconds)
            await self._look(files, on_change)

    async def _look(self, files: Sequence[str], on_change: Callable[[Keyring], None]) -> None:
        if not self._failure and await asyncio.to_thread(_stamps, files) == self._read.stamps:
            return
        try:
            read = await asyncio.to_thread(read_keys, self._keys, self._environ)
        except ConfigurationError as error:
            if str(error) != self._failure:
                self._failure = str(error)
                self._log.error(
                    "the keyring cannot be read again: the keys read before stay in use",
                    reason=self._failure,
                    hint="put the key back; a restart would fail",
                )
            return
        if self._failure:
            self._log.info("the keyring can be read again")
        self._failure = ""
        changed = read.digest != self._read.digest
        self._take(read)
        if changed:
            self._log.info("the keyring has changed", keys=list(read.keyring.ids))
            on_change(read.keyring)

    def _take(self, read: ReadKeys) -> None:
        self._read = read
        for path in read.exposed:
            if path not in self._exposed:
                self._log.warning("every user of this machine can read a key of the keyring: chmod 600", path=path)
        self._exposed = frozenset(read.exposed)


def _read(path: str) -> tuple[str, os.stat_result]:
    """The text of a key file, and what it was when it was read. Raises OSError, ValueError."""
    # A pipe must not hold us up: it is opened without waiting, and refused.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("is no regular file")
        return os.read(descriptor, LARGEST_FILE).decode("ascii", "replace"), found
    finally:
        os.close(descriptor)


def _variable(name: str, environ: Mapping[str, str]) -> str:
    text = environ.get(name, "")
    if not text.strip():
        raise ValueError("is not set in the environment, or is blank")
    return text


def _stamps(files: Sequence[str]) -> tuple[_Stamp | None, ...]:
    return tuple(map(_stamp_of, files))


def _stamp_of(path: str) -> _Stamp | None:
    try:
        return _stamp(os.stat(path))
    except OSError:
        return None


def _stamp(found: os.stat_result) -> _Stamp:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
