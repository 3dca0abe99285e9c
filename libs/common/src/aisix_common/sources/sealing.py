"""The seam for encrypting what lies on disk: today's sealer leaves bytes as they are.

A sealer that encrypts takes `context` as associated data, so that records can be neither swapped nor moved to another
file.
"""

from typing import Final, Protocol


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
