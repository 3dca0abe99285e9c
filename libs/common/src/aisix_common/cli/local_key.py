"""The key that `aisix --config` makes for itself where nothing else was said: `secrets.local_key_file`.

Made before the services start, so that all have it; never overwritten, because whoever loses it loses what it
encrypted. Imports no resources and no etcd.
"""

import errno
import json
import os
import secrets
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from aisix_common.errors import ConfigurationError, Problem
from aisix_common.secrets.envelope import decode_key, new_key
from aisix_common.settings import Settings
from aisix_common.settings.control import KeyringKey

from .notes import Notes

KEY_ID: Final = "local"
VARIABLE: Final = "AISIX_SECRETS__KEYRING"
_PATH: Final = "secrets.local_key_file"


def provided(settings: Settings, notes: Notes) -> Mapping[str, str]:
    """What the services get in their environment so that they have a keyring; the key is made if there is none.

    Empty where the settings ask for no such key, and where it cannot be made, which is noted: the admin, or in managed
    mode the cloud agent, then refuses to store secrets. Raises ConfigurationError for a file that is there and cannot
    be used.
    """
    path = _wanted(settings)
    if path is None:
        return {}
    try:
        if not os.path.lexists(path):
            write_key(path)
            notes.say(
                "warn",
                f"made the key {path}, which stored secrets are encrypted with: keep a copy, without it they are lost",
            )
    except FileExistsError:
        pass  # another process was faster
    except OSError as error:
        notes.say(
            "warn",
            f"{_PATH}: {path} cannot be made: {error.strerror}; resources with secrets cannot be stored until there is "
            "a key: set secrets.local_key_file to a place that can be written, or secrets.keyring",
        )
        return {}
    refuse_unusable(path)
    return {VARIABLE: json.dumps([{"id": KEY_ID, "file": str(path)}])}


def keys_of(settings: Settings) -> Sequence[KeyringKey]:
    """The keyring that a gateway of these settings has: `secrets.keyring`, or the key that `aisix` made for it."""
    path = _wanted(settings)
    if path is None or not os.path.exists(path):
        return settings.secrets.keyring
    return (KeyringKey(id=KEY_ID, file=str(path)),)


def write_key(path: Path) -> None:
    """A new key in a file of mode 0600 that was not there, whole or not at all. Raises OSError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:  # the folder is a file; only a key that is there may be told as such
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
    # Drawn, not our process id: in two containers that share the folder both are process 1.
    unfinished = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(new_key() + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(unfinished, path)  # fails where there is one: nothing is ever replaced
    finally:
        unfinished.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def refuse_unusable(path: Path) -> None:
    """Raise ConfigurationError, with what to do, unless `path` is a key of ours that nobody else can read."""
    reason = _why_unusable(path)
    if reason is not None:
        raise ConfigurationError([Problem(_PATH, f"{path} {reason}")])


def _wanted(settings: Settings) -> Path | None:
    wanted, file = settings.secrets, settings.secrets.local_key_file.strip()
    none = wanted.keyring or wanted.allow_plaintext or not file
    if none or settings.resources_file is not None:
        return None
    return Path(os.path.abspath(file))


def _why_unusable(path: Path) -> str | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return f"cannot be read: {error.strerror}; make it a file of this user, or name it in secrets.keyring"
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return "is no regular file: set secrets.local_key_file to another place"
        if found.st_uid != os.geteuid():
            return "belongs to another user: give it to the user that runs the gateway, or name it in secrets.keyring"
        if found.st_mode & 0o077:
            return "can be read or written by others: chmod 600, and consider the key known to them"
        try:
            decode_key(os.read(descriptor, 4096).decode("ascii", "replace"))
        except ValueError:
            return (
                "holds no key (32 bytes in base64): put the key back that stored secrets were encrypted with; only if "
                "there are none, delete the file"
            )
    finally:
        os.close(descriptor)
    return None
