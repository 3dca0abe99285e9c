"""The versions of one resource: one row of etcd for each resource, written in the transaction of every change. Pure.

A version holds the document as it may be shown: secrets are masks, so history never holds more than the resource does.
The row lives on when the resource is deleted, which is what restoring works from.
"""

from typing import Any, Final

import msgspec

from .changes import changed_paths

BYTES_OF_ONE: Final = 256 * 1024
"""What the versions of one resource may take; older ones go first. etcd takes 1.5 MiB in a transaction."""

FOUND: Final = "found"
"""The action of a version that others had written before the first write of ours."""


class Version(msgspec.Struct, frozen=True, omit_defaults=True):
    """One version of a resource."""

    number: int
    at: str
    """RFC 3339; empty for what others wrote before."""
    by: str
    """Name of the admin key; empty for what others wrote."""
    action: str
    changed: tuple[str, ...] = ()
    """JSON pointers of the fields that differ from the version before."""
    value: dict[str, Any] | None = None
    """The document with masks; None where it was deleted, or where it was too large to be kept (see `dropped`)."""
    dropped: bool = False
    """Whether `value` was too large."""
    revision: int = 0
    """mod_revision of the resource; 0 in the newest version, whose revision is that of the history row itself."""


class History(msgspec.Struct, frozen=True):
    """The row. `versions` oldest first."""

    versions: tuple[Version, ...] = ()

    @property
    def last(self) -> Version | None:
        """The newest version."""
        return self.versions[-1] if self.versions else None

    def find(self, number: int) -> Version | None:
        """The version with this number, while it is kept."""
        return next((version for version in self.versions if version.number == number), None)


def read_history(raw: bytes | None, revision: int = 0) -> History:
    """The history in a row last written at `revision`; empty where there is none or it cannot be read."""
    if raw is None:
        return History()
    try:
        history = msgspec.json.decode(raw, type=History)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return History()
    last = history.last
    if last is None or last.revision:
        return history
    return History((*history.versions[:-1], msgspec.structs.replace(last, revision=revision)))


def appended(history: History, version: Version, most: int) -> bytes:
    """The row's new bytes: `version` (its number is given here) behind at most `most - 1` others."""
    last = history.last
    newest = _kept(msgspec.structs.replace(version, number=last.number + 1 if last else 1, revision=0))
    kept = [newest]
    room = BYTES_OF_ONE - len(msgspec.json.encode(newest))
    for older in map(_kept, reversed(history.versions)):  # what others wrote may be too large as well
        room -= len(msgspec.json.encode(older)) + 1
        if len(kept) >= most or room < 0:
            break
        kept.append(older)
    return msgspec.json.encode(History(tuple(reversed(kept))))


def _kept(version: Version) -> Version:
    """The version, without its document where that is too large: it must not cost all others."""
    if len(msgspec.json.encode(version)) <= BYTES_OF_ONE:
        return version
    return msgspec.structs.replace(version, value=None, dropped=True)


def with_found(history: History, value: dict[str, Any] | None, revision: int) -> History:
    """`history`, with what others wrote since as a version of its own: `value` (masked) at `revision`.

    Also where it is the first that is known of the resource. `value` None: the row cannot be read, nothing to keep.
    Where nothing that is shown differs, no version was made: `aisix secrets reencrypt` writes rows anew. Then the row's
    revision is the newest version's.
    """
    last = history.last
    if value is None or (last is not None and last.revision == revision):
        return history
    if last is not None and last.value is not None and not changed_paths(last.value, value):
        return History((*history.versions[:-1], msgspec.structs.replace(last, revision=revision)))
    number = last.number + 1 if last else 1
    return History((*history.versions, Version(number, "", "", FOUND, value=value, revision=revision)))


def shown(version: Version) -> dict[str, Any]:
    """A version as it is answered."""
    return {
        "version": version.number,
        "revision": version.revision,
        "at": version.at or None,
        "by": version.by or None,
        "action": version.action,
        "changed": list(version.changed),
        "value": version.value,
        **({"dropped": True} if version.dropped else {}),
    }
