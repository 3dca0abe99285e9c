"""Where the bundle is kept: the protocol, and a folder that keeps it. Blocking: call it in a thread.

    ca.crt client.crt client.key env_id    the names and modes that a reference node knows (control-plane 6.1)
    bundle.next                            a bundle that is being put in their place: it counts from its rename on
    bundle.good                            the last bundle that is known to have worked
    bundle.pending                         the key and CSR of a certificate that was asked for

Three files cannot be replaced in one step, and links to a folder of versions would be written through by whoever copies
a new bundle over them. So the new bundle is first kept whole in one file; whatever stops us, one of `bundle.next`, the
three files and `bundle.good` is whole, and reading takes the newest that is sound.
"""

from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from aisix_common.errors import AisixError
from aisix_common.secret import Secret

from .bundle import Bundle
from .candidates import GOOD, Kept, KeptId, Reader, Survey, joined, parted, pending_of, pending_text, survey, version_of
from .candidates import ChangedMeanwhile as ChangedMeanwhile
from .candidates import Stored as Stored
from .disk import Disk, ensure_folder, remove_whole, write_whole
from .enrollment import Pending
from .identity import BundleRefused, Identity

NEXT, PENDING = "bundle.next", "bundle.pending"
_MODES: Final = {"ca.crt": 0o644, "client.crt": 0o644, "client.key": 0o600}


class NotSaved(AisixError):
    """The store could not be written; what was in force before is still there, or the new bundle already is."""


class StoreAway(NotSaved):
    """Nor can it be read now, which says nothing of what lies there: go on with what is in force and ask again later.
    No other key is to be made: a token may have been used with the one that lies there."""


class BundleStore(Protocol):
    """Keeps the bundle, and what is needed to get one. One process writes, any number reads."""

    def load(self, now: datetime, in_force: Identity | None = None) -> Stored | None:
        """What is to be used; None where there is nothing.

        Raises BundleRefused where something is there and cannot be used, or must not replace what is `in_force`
        because it is older or names somebody else: whoever has a good bundle goes on with it. Raises StoreAway
        where the store cannot be read now, as `before` and `load_pending` do.
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
        self._ids = (folder / "env_id", dp_id_file)
        self._disk = disk or Disk()

    def load(self, now: datetime, in_force: Identity | None = None) -> Stored | None:
        return self._look(now, in_force).chosen()

    def save(self, bundle: Bundle, now: datetime, version: str | None) -> Stored:
        identity = self._kept().judged(bundle, now).identity
        look = self._look(now)
        found = look.replaced_by(identity, version, str(self._folder))
        try:
            ensure_folder(self._disk, self._folder)
            if found is not None and GOOD not in look.sound:
                self._write(GOOD, joined(found.bundle), 0o600)  # the only one there was: it must not get lost
            self._write(NEXT, joined(bundle), 0o600)
            self._spread(bundle, identity)
        except OSError as error:
            raise self._not_saved(error) from None
        return Stored(bundle, identity, version_of(bundle))

    def confirm(self, version: str, now: datetime) -> None:
        look = self._look(now)
        found, good = look.newest, look.sound.get(GOOD)
        if found is None or found.version != version:
            return
        try:
            if (self._folder / NEXT).exists():
                self._spread(found.bundle, found.identity)  # where a save did not come to its end
            if good is None or good.bundle != found.bundle:
                self._write(GOOD, joined(found.bundle), 0o600)
        except OSError as error:
            raise self._not_saved(error) from None

    def before(self, now: datetime) -> Stored | None:
        return self._look(now).before()

    def load_pending(self) -> Pending | None:
        try:
            data = (self._folder / PENDING).read_bytes()
        except OSError:
            return None  # asking anew costs nothing but a key
        return pending_of(data)

    def save_pending(self, pending: Pending | None) -> None:
        try:
            if pending is None:
                remove_whole(self._disk, self._folder / PENDING)
                return
            ensure_folder(self._disk, self._folder)
            self._write(PENDING, pending_text(pending), 0o600)
        except OSError as error:
            raise self._not_saved(error) from None

    # reading

    def _look(self, now: datetime, in_force: Identity | None = None) -> Survey:
        """What lies in the places, "" being the three files."""
        readers: dict[str, Reader] = {NEXT: partial(self._read_joined, NEXT), "": self._read_files}
        readers[GOOD] = partial(self._read_joined, GOOD)
        return survey(readers, lambda place: self._folder / place, self._kept(), now, in_force)

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
        return parted(data)

    def _kept(self) -> Kept:
        return Kept(*map(self._kept_id, self._ids))

    def _kept_id(self, path: Path) -> KeptId:
        try:
            text = path.read_text(errors="replace").strip()
        except OSError:
            text = ""
        return KeptId(text, str(path), f"empty {self._folder} and remove {path}")

    # writing

    def _spread(self, bundle: Bundle, identity: Identity) -> None:
        """Put a bundle that lies in `bundle.next` into its places."""
        texts = {"ca.crt": bundle.ca, "client.crt": bundle.certificate, "client.key": bundle.key.reveal()}
        for name, mode in _MODES.items():
            self._write(name, texts[name], mode)
        for path, ours in zip(self._ids, (identity.env_id, identity.dp_id), strict=True):
            ensure_folder(self._disk, path.parent)
            write_whole(self._disk, path, ours + "\n", 0o600)
        remove_whole(self._disk, self._folder / NEXT)

    def _write(self, name: str, text: str, mode: int) -> None:
        write_whole(self._disk, self._folder / name, text, mode)

    def _not_saved(self, error: OSError) -> NotSaved:
        where = error.filename or self._folder
        return NotSaved(f"{where} cannot be written: {error.strerror}; the folder must be writable and have room")
