"""Which of the bundles that lie in a store is used, and which may take its place. Pure: the store reads and writes.

A store has places, in the order in which equally new bundles are preferred; `GOOD` is that of the last bundle that is
known to have worked.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from aisix_common.errors import AisixError
from aisix_common.secret import Secret

from .bundle import Bundle
from .enrollment import Pending
from .identity import BundleRefused, Identity, identify

GOOD: Final = "bundle.good"
Reader = Callable[[], Bundle | None]
"""Reads one place: None where nothing lies. Raises BundleRefused for what cannot be read as a bundle."""


class ChangedMeanwhile(AisixError):
    """Somebody else wrote the store since it was read: load it again."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A bundle that may be used, and whom it makes us."""

    bundle: Bundle
    identity: Identity
    version: str
    """Changes when the stored bundle does: a digest. Tells nothing of the key."""
    notes: tuple[str, ...] = ()
    """What else lies there and why it was not taken, for the log."""


@dataclass(frozen=True, slots=True)
class KeptId:
    """An id that is kept beside the bundle. Blank: none; it follows from the certificate and is written with the next
    save."""

    text: str
    at: str
    """Where it lies, for operators."""
    remedy: str
    """What to do to have another one there."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Whom the store belongs to."""

    env_id: KeptId
    dp_id: KeptId

    def foreign(self, identity: Identity) -> list[str]:
        """Where it is somebody else."""
        ids = (("environment", self.env_id, identity.env_id), ("data plane", self.dp_id, identity.dp_id))
        return [
            f"the certificate is that of {what} {ours}, and {kept.at} says {kept.text[:60]!a}: give the bundle of that "
            f"{what}, or, to make this gateway another's, {kept.remedy}"
            for what, kept, ours in ids
            if kept.text and kept.text != ours
        ]

    def judged(self, bundle: Bundle, now: datetime, in_force: Identity | None = None) -> Stored:
        """The bundle as one that may be used. Raises BundleRefused for one that is broken, or that names somebody else
        or is older than what is in force."""
        identity = identify(bundle.certificate, bundle.key, bundle.ca, now)
        if foreign := self.foreign(identity):
            raise BundleRefused(foreign)
        if in_force is not None:
            _refuse_foreign(identity, in_force)
            _refuse_older(identity, in_force)
        return Stored(bundle, identity, version_of(bundle))


@dataclass(frozen=True, slots=True)
class Survey:
    """What lies in a store: the bundles that may be used, by their place, and why others may not."""

    sound: Mapping[str, Stored]
    notes: tuple[str, ...]

    @property
    def newest(self) -> Stored | None:
        """Of equally new ones the first."""
        return max(self.sound.values(), key=lambda stored: stored.identity.not_before, default=None)

    def chosen(self) -> Stored | None:
        """What is to be used; None where nothing lies. Raises BundleRefused where nothing that lies there can be."""
        newest = self.newest
        if newest is None and self.notes:
            raise BundleRefused(self.notes)
        return replace(newest, notes=self.notes) if newest is not None else None

    def before(self) -> Stored | None:
        """The last bundle that has worked, if it is another than the newest."""
        newest, good = self.newest, self.sound.get(GOOD)
        return good if newest is not None and good is not None and newest.version != good.version else None

    def replaced_by(self, new: Identity, version: str | None, where: str) -> Stored | None:
        """What the new one takes the place of, which was decided on `version`.

        Raises ChangedMeanwhile, and BundleRefused for one that is older.
        """
        found = self.newest
        if version != (found.version if found is not None else None):
            raise ChangedMeanwhile(f"the bundle in {where} was changed meanwhile")
        if found is not None:
            _refuse_older(new, found.identity)
        return found


def survey(
    readers: Mapping[str, Reader], where: Callable[[str], object], kept: Kept, now: datetime, in_force: Identity | None
) -> Survey:
    """Look at all places, in their order; `where` says where one lies, for operators."""
    sound: dict[str, Stored] = {}
    notes: list[str] = []
    for place, read in readers.items():
        try:
            bundle = read()
            if bundle is not None:
                same = next((stored for stored in sound.values() if stored.bundle == bundle), None)
                sound[place] = same or kept.judged(bundle, now, in_force)
        except BundleRefused as refused:
            notes += [f"{where(place)}: {reason}" for reason in refused.reasons]
    return Survey(sound, tuple(notes))


def joined(bundle: Bundle) -> str:
    """A bundle as one document."""
    return json.dumps({"certificate": bundle.certificate, "key": bundle.key.reveal(), "ca": bundle.ca})


def parted(document: bytes) -> Bundle:
    """The bundle of such a document. Raises BundleRefused."""
    kept = _fields(document, ("certificate", "key", "ca"))
    if kept is None:
        raise BundleRefused(["is damaged"])
    return Bundle(kept["certificate"], Secret(kept["key"]), kept["ca"])


def pending_text(pending: Pending) -> str:
    """What is kept of a certificate that was asked for."""
    return json.dumps({"key": pending.key_pem.reveal(), "csr": pending.csr_pem})


def pending_of(document: bytes) -> Pending | None:
    """What such a document holds; None where it is damaged."""
    kept = _fields(document, ("key", "csr"))
    return Pending(Secret(kept["key"]), kept["csr"]) if kept is not None else None


def version_of(bundle: Bundle) -> str:
    """A digest of what is public of a bundle."""
    return hashlib.sha256(f"{bundle.certificate}\0{bundle.ca}".encode("utf-8", "replace")).hexdigest()


def _fields(document: bytes, names: Sequence[str]) -> Mapping[str, str] | None:
    """The text fields of a document of ours; None where it is none. No error leaves here: it would hold the key."""
    try:
        fields = json.loads(document)
    except (ValueError, RecursionError):
        return None
    sound = isinstance(fields, dict) and all(isinstance(fields.get(name), str) for name in names)
    return fields if sound else None


def _refuse_foreign(new: Identity, in_force: Identity) -> None:
    if not new.same_as(in_force):
        raise BundleRefused(
            [
                f"it names data plane {new.dp_id} of environment {new.env_id}, and this gateway runs as "
                f"{in_force.dp_id} of {in_force.env_id}: give it a bundle of its own"
            ]
        )


def _refuse_older(new: Identity, in_force: Identity) -> None:
    if new.not_before < in_force.not_before:
        raise BundleRefused(
            [f"it is older (valid from {new.not_before:%Y-%m-%d %H:%M:%SZ}) than the bundle in force, which stays"]
        )
