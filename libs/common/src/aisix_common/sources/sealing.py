"""How what lies on disk is protected: encrypted with the keyring, or left as it is where there is none.

A sealer that encrypts takes `context` as associated data, so that records can be neither swapped nor moved to another
file.
"""

from collections.abc import Callable
from typing import Final, Protocol

from aisix_common.secrets.envelope import CannotOpen, Keyring


class Sealer(Protocol):
    """Protects the records of a file."""

    name: str
    """Stands in the file's header: a file sealed by another is not opened."""

    def seal(self, clear: bytes, context: bytes) -> bytes:
        """What is written for `clear`."""
        ...

    def unseal(self, sealed: bytes, context: bytes) -> bytes:
        """What was sealed. Raises ValueError for what this sealer did not seal in this context."""
        ...


class Plain:
    """Leaves bytes in clear; the file's mode is their only protection."""

    name = "plain"

    def seal(self, clear: bytes, context: bytes) -> bytes:
        return clear

    def unseal(self, sealed: bytes, context: bytes) -> bytes:
        return sealed


PLAIN: Final = Plain()


class KeyringSealer:
    """Encrypts with the first key of a keyring that may change: each record names its key.

    A record is the length of the key's id (one byte), the id, nonce and ciphertext.
    """

    name = "aes-256-gcm"

    def __init__(self, keyring: Callable[[], Keyring]) -> None:
        """`keyring` gives the present one, also in a thread; it is never empty."""
        self._keyring = keyring

    def seal(self, clear: bytes, context: bytes) -> bytes:
        keyring = self._keyring()
        key_id = keyring.first.encode()
        return bytes([len(key_id)]) + key_id + keyring.seal_bytes(clear, context)

    def unseal(self, sealed: bytes, context: bytes) -> bytes:
        """What was sealed. Raises CannotOpen, a ValueError."""
        end = 1 + (sealed[0] if sealed else 0)
        try:
            key_id = sealed[1:end].decode("ascii")
        except UnicodeDecodeError:
            raise CannotOpen("names no key") from None
        return self._keyring().open_bytes(key_id, sealed[end:], context)


def sealer_for(keyring: Callable[[], Keyring]) -> Sealer:
    """The sealer of a process with this keyring: it encrypts where there are keys when it is made."""
    return KeyringSealer(keyring) if keyring() else PLAIN
