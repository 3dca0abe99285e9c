"""Who may use the admin API: the credential of a request, and whose of our keys it is. Knows no HTTP framework.

The rules are those of the reference (`Authorization: Bearer <key>`, else `x-api-key`), compared in constant time. Keys
that are kept in files follow their files.
"""

import hashlib
import hmac
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from aisix_common.errors import ConfigurationError, Problem
from aisix_common.logs import Logger, get_logger
from aisix_common.secret import Secret
from aisix_common.settings.listeners import AdminKey
from aisix_common.settings.rules import admin_key_name

LOOK_SECONDS: Final = 1.0
"""How long a key file is taken to be what it was."""
_LONGEST_FILE: Final = 64 * 1024
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Admin:
    """Somebody with an admin key."""

    name: str
    """What the configuration calls the key."""
    role: Literal["admin", "viewer"] = "admin"

    @property
    def writes(self) -> bool:
        """Whether this admin may change anything."""
        return self.role == "admin"


def credential(authorization: str | None, api_key: str | None, *, bare: bool = False) -> str | None:
    """The key a request presents, or None. A present Authorization header decides alone, even when it is malformed.

    `bare`: as the older dialect has it, the key alone will do, and `Bearer` may be spelt in any letter case.
    """
    if authorization is not None:
        scheme, _, token = authorization.partition(" ")
        if bare:
            return (token if scheme.lower() == "bearer" else authorization).strip() or None
        return (token.strip() or None) if scheme == "Bearer" else None
    return (api_key.strip() or None) if api_key is not None else None


class AdminKeys:
    """The configured admin keys, kept as digests: nothing here can show a key.

    Raises ConfigurationError where a key cannot be read, or two entries are one key and do not agree on its role.
    """

    def __init__(
        self,
        keys: Sequence[Secret | AdminKey],
        environ: Mapping[str, str] = _NOTHING,
        *,
        now: Callable[[], float] = time.monotonic,
        log: Logger | None = None,
    ) -> None:
        self._now = now
        self._log = log or get_logger("admin")
        self._looked = now()
        self._admins = tuple(_admin(place, key) for place, key in enumerate(keys))
        self._files = tuple(
            (place, _KeyFile(key.key_file))
            for place, key in enumerate(keys)
            if isinstance(key, AdminKey) and key.key_file is not None
        )
        for _, file in self._files:
            file.changed()  # before it is read, so that no change in between goes unseen
        problems: list[Problem] = []
        self._digests = [
            _digest(_start(f"admin.admin_keys[{n}]", key, environ, problems)) for n, key in enumerate(keys)
        ]
        if not problems:
            problems += self._contradictions()
        if problems:
            raise ConfigurationError(problems)

    def who(self, presented: str | None) -> Admin | None:
        """Whose key `presented` is, or None.

        Every digest is compared, always: the time tells neither which key came close nor where in the list it stands.
        Of two entries with one key the first is meant.
        """
        place = self.position(presented)
        return None if place is None else self._admins[place]

    def position(self, presented: str | None) -> int | None:
        """Which entry `presented` is the key of (its place in the configuration), or None."""
        if self._files and self._now() - self._looked >= LOOK_SECONDS:
            self._look_again()
        digest = _digest(presented or "")
        found: int | None = None
        for place, known in enumerate(self._digests):
            if hmac.compare_digest(known, digest) and found is None:
                found = place
        return found if presented else None

    def has_hash(self, key_hash: str) -> bool:
        """Whether a caller key with this SHA-256 (lower-case hex) would be one of the admin keys."""
        return key_hash in {known.hex() for known in self._digests}

    def _look_again(self) -> None:
        """Take up what key files say now. What cannot be read changes nothing: an operator must not be locked out."""
        self._looked = self._now()
        for place, file in self._files:
            if not file.changed():
                continue
            name = self._admins[place].name
            text, reason = file.read()
            if reason:
                self._log.warning(
                    "a changed admin key file is not used: the key from before is", key=name, reason=reason
                )
            elif _digest(text) != self._digests[place]:
                self._digests[place] = _digest(text)
                self._log.info("an admin key was read anew from its file", key=name)

    def _contradictions(self) -> list[Problem]:
        found = []
        for place, digest in enumerate(self._digests):
            first = self._digests.index(digest)
            if self._admins[first].role != self._admins[place].role:
                reason = f"is the same key as admin.admin_keys[{first}], which has another role"
                found.append(Problem(f"admin.admin_keys[{place}]", reason))
        return found


class _KeyFile:
    """A file that holds one key."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: tuple[int, ...] = ()

    def changed(self) -> bool:
        """Whether the file is another one than at the last call, as far as the file system tells."""
        try:
            now = os.stat(self._path)
            seen: tuple[int, ...] = (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
        except (OSError, ValueError):
            seen = ()
        before, self._seen = self._seen, seen
        return seen != before

    def read(self) -> tuple[str, str]:
        """(the key, why it could not be read); one of the two is empty."""
        return _read(self._path)


def _read(path: str) -> tuple[str, str]:
    try:
        with open(path, "rb") as file:
            data = file.read(_LONGEST_FILE + 1)
    except (OSError, ValueError) as error:
        return "", f"cannot be read: {getattr(error, 'strerror', None) or 'not a file name'}"
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        return "", "must hold UTF-8 text"
    if not text or len(data) > _LONGEST_FILE or len(text.split()) != 1:
        return "", "must hold one key, and nothing else"
    return text, ""


def _admin(place: int, key: Secret | AdminKey) -> Admin:
    return Admin(admin_key_name(place, key), key.role if isinstance(key, AdminKey) else "admin")


def _start(path: str, key: Secret | AdminKey, environ: Mapping[str, str], problems: list[Problem]) -> str:
    """The text of a key, as it is kept where the entry says."""
    if isinstance(key, Secret):
        return key.reveal()
    if key.key is not None:
        return key.key.reveal()
    if key.key_file is not None:
        text, reason = _read(key.key_file)
        if reason:
            problems.append(Problem(f"{path}.key_file", f"{key.key_file} {reason}"))
        return text
    text = environ.get(key.key_env or "", "").strip()
    if not text:
        problems.append(Problem(f"{path}.key_env", "names an environment variable that is not set, or is blank"))
    return text


def _digest(text: str) -> bytes:
    # "surrogateescape" because header bytes that are no UTF-8 reach us as lone surrogates.
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
