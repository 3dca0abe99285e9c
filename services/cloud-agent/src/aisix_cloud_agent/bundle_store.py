"""Where the bundle is kept: the protocol, and a folder that keeps it. Blocking: call it in a thread.

    ca.crt client.crt client.key env_id    the names and modes that a reference node knows (control-plane 6.1)
    bundle.next                            a bundle that is being put in their place: it counts from its rename on
    bundle.good                            the last bundle that is known to have worked
    bundle.pending                         the key and CSR of a certificate that was asked for

Three files cannot be replaced in one step, and links to a folder of versions would be written through by whoever copies
a new bundle over them. So the new bundle is first kept whole in one file; whatever stops us, one of `bundle.next`, the
three files and `bundle.good` is whole, and reading takes the newest that is sound.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from aisix_common.errors import AisixError
from aisix_common.secret import Secret

from .bundle import Bundle
from .disk import Disk, ensure_folder, remove_whole, write_whole
from .enrollment import Pending
from .identity import BundleRefused, Identity, identify

NEXT, GOOD, PENDING = "bundle.next", "bundle.good", "bundle.pending"
_MODES: Final = {"ca.crt": 0o644, "client.crt": 0o644, "client.key": 0o600}


class NotSaved(AisixError):
    """The store could not be written; what was in force before is still there, or the new bundle already is."""


class ChangedMeanwhile(AisixError):
    """Somebody else wrote the store since it was read: load it again."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A bundle that may be used, and whom it makes us."""

    bundle: Bundle
    identity: Identity
    version: str
    """Changes when the stored bundle does: a digest, or a Kubernetes resourceVersion. Tells nothing of the key."""
    notes: tuple[str, ...] = ()
    """What else lies there and why it was not taken, for the log."""


class BundleStore(Protocol):
    """Keeps the bundle, and what is needed to get one. One process writes, any number reads."""

    def load(self, now: datetime, in_force: Identity | None = None) -> Stored | None:
        """What is to be used; None where there is nothing.

        Raises BundleRefused where something is there and cannot be used, or must not replace what is `in_force`
        because it is older or names somebody else: whoever has a good bundle goes on with it.
        """
        ...

    def save(self, bundle: Bundle, now: datetime, version: str | None) -> Stored:
        """Put a bundle in force. `version` is that of the bundle it replaces, None where `load` gave none.

        Raises BundleRefused for one that is broken, older than the stored one or names somebody else,
        ChangedMeanwhile, and NotSaved.
        """
        ...

    def confirm(self, version: str, now: datetime) -> None:
        """The bundle of this version has worked: the one before it is forgotten. Nothing where it is not the one that
        is stored any more; cheap where it is known already. Raises NotSaved."""
        ...

    def before(self, now: datetime) -> Stored | None:
        """The last bundle that has worked, if it still can be used and is another than that in force: for when the
        new one is not accepted."""
        ...

    def load_pending(self) -> Pending | None:
        """The key and CSR of a certificate that was asked for and not yet saved."""
        ...

    def save_pending(self, pending: Pending | None) -> None:
        """Keep them, or with None forget them. Raises NotSaved."""
        ...


class DirectoryStore:
    """A `BundleStore` in a folder; `dp_id_file` holds the data plane's id and may lie elsewhere."""

    def __init__(self, folder: Path, dp_id_file: Path, disk: Disk | None = None) -> None:
        self._folder = folder
        self._ids = {"environment": folder / "env_id", "data plane": dp_id_file}
        self._disk = disk or Disk()

    def load(self, now: datetime, in_force: Identity | None = None) -> Stored | None:
        sound, notes = self._look(now, in_force)
        best = _newest(sound)
        if best is None and notes:
            raise BundleRefused(notes)
        return replace(best, notes=tuple(notes)) if best is not None else None

    def save(self, bundle: Bundle, now: datetime, version: str | None) -> Stored:
        identity = identify(bundle.certificate, bundle.key, bundle.ca, now)
        if foreign := [*self._foreign(identity)]:
            raise BundleRefused(foreign)
        sound, _ = self._look(now)
        found = _newest(sound)
        if version != (found.version if found is not None else None):
            raise ChangedMeanwhile(f"the bundle in {self._folder} was changed meanwhile")
        if found is not None:
            _refuse_older(identity, found.identity)
        try:
            ensure_folder(self._disk, self._folder)
            if found is not None and GOOD not in sound:
                self._write(GOOD, _joined(found.bundle), 0o600)  # the only one there was: it must not get lost
            self._write(NEXT, _joined(bundle), 0o600)
            self._spread(bundle, identity)
        except OSError as error:
            raise self._not_saved(error) from None
        return Stored(bundle, identity, _version(bundle))

    def confirm(self, version: str, now: datetime) -> None:
        sound, _ = self._look(now)
        found, good = _newest(sound), sound.get(GOOD)
        if found is None or found.version != version:
            return
        try:
            if (self._folder / NEXT).exists():
                self._spread(found.bundle, found.identity)  # where a save did not come to its end
            if good is None or good.bundle != found.bundle:
                self._write(GOOD, _joined(found.bundle), 0o600)
        except OSError as error:
            raise self._not_saved(error) from None

    def before(self, now: datetime) -> Stored | None:
        sound, _ = self._look(now)
        newest, good = _newest(sound), sound.get(GOOD)
        return good if newest is not None and good is not None and newest.version != good.version else None

    def load_pending(self) -> Pending | None:
        try:
            data = (self._folder / PENDING).read_bytes()
        except OSError:
            return None  # asking anew costs nothing but a key
        kept = _fields(data, ("key", "csr"))
        if kept is None:
            return None
        return Pending(Secret(kept["key"]), kept["csr"])

    def save_pending(self, pending: Pending | None) -> None:
        try:
            if pending is None:
                remove_whole(self._disk, self._folder / PENDING)
                return
            ensure_folder(self._disk, self._folder)
            self._write(PENDING, json.dumps({"key": pending.key_pem.reveal(), "csr": pending.csr_pem}), 0o600)
        except OSError as error:
            raise self._not_saved(error) from None

    # reading

    def _look(self, now: datetime, in_force: Identity | None = None) -> tuple[dict[str, Stored], list[str]]:
        """The bundles that may be used, by the place they lie in ("" being the three files), and why others may not."""
        sound: dict[str, Stored] = {}
        notes: list[str] = []
        for name in (NEXT, "", GOOD):
            try:
                bundle = self._read_joined(name) if name else self._read_files()
                if bundle is not None:
                    same = next((stored for stored in sound.values() if stored.bundle == bundle), None)
                    sound[name] = same or self._judged(bundle, now, in_force)
            except BundleRefused as refused:
                notes += [f"{self._folder / name}: {reason}" for reason in refused.reasons]
        return sound, notes

    def _judged(self, bundle: Bundle, now: datetime, in_force: Identity | None) -> Stored:
        identity = identify(bundle.certificate, bundle.key, bundle.ca, now)
        if foreign := [*self._foreign(identity)]:
            raise BundleRefused(foreign)
        if in_force is not None:
            _refuse_foreign(identity, in_force)
            _refuse_older(identity, in_force)
        return Stored(bundle, identity, _version(bundle))

    def _read_files(self) -> Bundle | None:
        texts: dict[str, str] = {}
        missing, reasons = [], []
        for name in _MODES:
            try:
                texts[name] = (self._folder / name).read_bytes().decode("utf-8", "replace")
            except FileNotFoundError:
                missing.append(f"{name} is missing")
            except OSError as error:
                reasons.append(f"{name} cannot be read: {error.strerror}")
        if reasons or (texts and missing):
            raise BundleRefused(reasons + missing)
        return Bundle(texts["client.crt"], Secret(texts["client.key"]), texts["ca.crt"]) if texts else None

    def _read_joined(self, name: str) -> Bundle | None:
        try:
            data = (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BundleRefused([f"cannot be read: {error.strerror}"]) from None
        kept = _fields(data, ("certificate", "key", "ca"))
        if kept is None:
            raise BundleRefused(["is damaged"])
        return Bundle(kept["certificate"], Secret(kept["key"]), kept["ca"])

    def _foreign(self, identity: Identity) -> Iterator[str]:
        """Where the ids kept beside the bundle name somebody else."""
        for (what, path), ours in zip(self._ids.items(), (identity.env_id, identity.dp_id), strict=True):
            try:
                kept = path.read_text(errors="replace").strip()
            except OSError:
                continue  # they follow from the certificate, and are written with the next save
            if kept and kept != ours:
                yield (
                    f"the certificate is that of {what} {ours}, and {path} says {kept[:60]!a}: give the bundle of "
                    f"that {what}, or, to make this gateway another's, empty {self._folder} and remove {path}"
                )

    # writing

    def _spread(self, bundle: Bundle, identity: Identity) -> None:
        """Put a bundle that lies in `bundle.next` into its places."""
        texts = {"ca.crt": bundle.ca, "client.crt": bundle.certificate, "client.key": bundle.key.reveal()}
        for name, mode in _MODES.items():
            self._write(name, texts[name], mode)
        for path, ours in zip(self._ids.values(), (identity.env_id, identity.dp_id), strict=True):
            ensure_folder(self._disk, path.parent)
            write_whole(self._disk, path, ours + "\n", 0o600)
        remove_whole(self._disk, self._folder / NEXT)

    def _write(self, name: str, text: str, mode: int) -> None:
        write_whole(self._disk, self._folder / name, text, mode)

    def _not_saved(self, error: OSError) -> NotSaved:
        where = error.filename or self._folder
        return NotSaved(f"{where} cannot be written: {error.strerror}; the folder must be writable and have room")


def _newest(sound: Mapping[str, Stored]) -> Stored | None:
    """Of equally new ones the first."""
    return max(sound.values(), key=lambda stored: stored.identity.not_before, default=None)


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


def _joined(bundle: Bundle) -> str:
    return json.dumps({"certificate": bundle.certificate, "key": bundle.key.reveal(), "ca": bundle.ca})


def _fields(data: bytes, names: tuple[str, ...]) -> Mapping[str, str] | None:
    """The text fields of a document of ours; None where it is none. No error leaves here: it would hold the key."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    sound = isinstance(document, dict) and all(isinstance(document.get(name), str) for name in names)
    return document if sound else None


def _version(bundle: Bundle) -> str:
    return hashlib.sha256(f"{bundle.certificate}\0{bundle.ca}".encode("utf-8", "replace")).hexdigest()
