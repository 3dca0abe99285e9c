"""The guard against a list that would take away too much: an empty or broken answer must not empty a gateway. Pure.

It is for deletes that are inferred from a list. Delete events of a watch are never held back: a revocation is never
late. A second list that takes away the same rows is believed.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

SHARE: Final = 0.3
AT_LEAST: Final = 10


@dataclass(frozen=True, slots=True)
class Suspicious:
    """A list that is not to be believed at once: read another one after a while, and plan it with this `digest`."""

    count: int
    """Rows that it would delete."""
    of: int
    """Rows that there are."""
    digest: str
    """Of what makes it suspicious. Another list is confirmed by it only if it takes away the very same rows."""
    older: bool = False
    """The Cloud is at an older revision than the one that was projected: it was restored, or is another one."""

    @property
    def message(self) -> str:
        """For operators."""
        if self.older:
            return "the Cloud's configuration is older than what was projected from it: it is read once more"
        return f"the Cloud's list would delete {self.count} of {self.of} row(s): it is read once more before that"


@dataclass(frozen=True, slots=True)
class ShrinkGuard:
    """How much a list may take away at once."""

    share: float = SHARE
    """Part of the rows, 0 to 1, that may go without being asked again; 1 lets everything go."""
    at_least: int = AT_LEAST
    """Fewer deletes than these are never suspicious - unless nothing at all would be left."""

    def judge(
        self, deleted: Iterable[str], of: int, *, empty: bool, older: bool, confirmed: str = ""
    ) -> Suspicious | None:
        """Why a list is not believed; None where it is.

        `deleted` are the keys that it would delete, in any order, of `of` rows. `empty`: the list has no row. `older`:
        see Suspicious. `confirmed` is the digest of an earlier list.
        """
        keys = sorted(deleted)
        many = len(keys) >= self.at_least and len(keys) > self.share * of
        if not (many or older or (empty and keys and self.share < 1)):
            return None
        digest = _digest(keys, older=older)
        return None if confirmed == digest else Suspicious(len(keys), of, digest, older)


def _digest(keys: list[str], *, older: bool) -> str:
    digest = hashlib.sha256(b"older" if older else b"")
    for key in keys:
        digest.update(b"\x00" + key.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
