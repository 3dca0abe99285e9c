"""Sealed texts: AES-256-GCM under a key of the keyring, `enc:v1:<key id>:<base64 of nonce and ciphertext>` (design 7).

The nonce is random (96 bits), and the context - where the secret belongs - is authenticated with it: what was sealed in
one place cannot be opened in another. Pure apart from the system's randomness. A keyring's keys never leave it.
"""

import base64
import binascii
import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from aisix_common.secret import SEALED, is_sealed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
_KEY_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


class CannotOpen(ValueError):
    """A sealed text that this keyring does not open. The message is for operators and holds nothing of the text but
    the id of its key."""

    def __init__(self, message: str, key_id: str = "") -> None:
        super().__init__(message)
        self.key_id = key_id


class CannotSeal(ValueError):
    """There is no key to seal with."""


class Keyring:
    """Keys by id, in order: the first one seals, all of them open. Immutable; empty where none is configured."""

    def __init__(self, keys: Iterable[tuple[str, bytes]] = ()) -> None:
        """`keys` of 32 bytes each, with ids of `is_key_id`. Raises ValueError for others, and for an id given twice."""
        self.__keys: dict[str, AESGCM] = {}
        for key_id, key in keys:
            if not is_key_id(key_id) or len(key) != KEY_BYTES or key_id in self.__keys:
                raise ValueError("keys have 32 bytes and ids of their own")
            self.__keys[key_id] = _cipher(key)

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of its keys, in order."""
        return tuple(self.__keys)

    @property
    def first(self) -> str:
        """The id of the key that seals; empty without keys."""
        return next(iter(self.__keys), "")

    def __bool__(self) -> bool:
        return bool(self.__keys)

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self.__keys)})"

    def seal(self, clear: str, context: bytes) -> str:
        """The sealed form of `clear`. Raises CannotSeal for an empty keyring."""
        sealed = self.seal_bytes(clear.encode("utf-8", "surrogatepass"), context)
        return f"{SEALED}{self.first}:{base64.b64encode(sealed).decode()}"

    def open(self, sealed: str, context: bytes) -> str:
        """What was sealed in this context. Raises CannotOpen."""
        key_id, data = _parts(sealed)
        return self.open_bytes(key_id, data, context).decode("utf-8", "surrogatepass")

    def seal_bytes(self, clear: bytes, context: bytes) -> bytes:
        """Nonce and ciphertext of `clear`, under the first key. Raises CannotSeal for an empty keyring."""
        cipher = self.__keys.get(self.first)
        if cipher is None:
            raise CannotSeal("no keyring is configured: set secrets.keyring")
        nonce = os.urandom(NONCE_BYTES)
        return nonce + cipher.encrypt(nonce, clear, context)

    def open_bytes(self, key_id: str, data: bytes, context: bytes) -> bytes:
        """The clear bytes of what the key `key_id` sealed in this context. Raises CannotOpen."""
        cipher = self.__keys.get(key_id)
        if cipher is None:
            known = f"its keys are {', '.join(self.__keys)}" if self.__keys else "no keyring is configured"
            raise CannotOpen(f'is encrypted with key "{key_id}", which is not in the keyring ({known})', key_id)
        from cryptography.exceptions import InvalidTag  # here: without a keyring the library is never loaded

        try:
            return cipher.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], context)
        except (InvalidTag, ValueError):
            raise CannotOpen(
                f'does not open with key "{key_id}" of the keyring: that is another key of the same name, '
                "or the value was damaged or moved here from another place",
                key_id,
            ) from None


NO_KEYRING: Final = Keyring()


def is_key_id(text: str) -> bool:
    """Whether `text` may name a key: 1 to 64 letters, digits, dots, dashes and underscores."""
    return _KEY_ID.fullmatch(text) is not None


def key_id_of(sealed: str) -> str:
    """The id of the key that a sealed text names. Raises CannotOpen for what is no sealed text."""
    return _parts(sealed)[0]


def decode_key(text: str) -> bytes:
    """The 32 bytes of a key as it stands in a file or variable: base64, with whitespace around it.

    Raises ValueError with the rule.
    """
    try:
        key = base64.b64decode(text.strip().encode(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError("must hold 32 bytes in base64: `aisix secrets generate-key` makes such a key")
    return key


def new_key() -> str:
    """A fresh key as `decode_key` reads it."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()


def _parts(sealed: str) -> tuple[str, bytes]:
    key_id, _, encoded = sealed[len(SEALED) :].partition(":") if is_sealed(sealed) else ("", "", "")
    if not is_key_id(key_id):
        raise CannotOpen("is not a well-formed encrypted value: it names no key")
    try:
        return key_id, base64.b64decode(encoded.encode("utf-8", "surrogatepass"), validate=True)
    except (binascii.Error, ValueError):
        raise CannotOpen("is not a well-formed encrypted value: it is not base64", key_id) from None


def _cipher(key: bytes) -> "AESGCM":
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)
