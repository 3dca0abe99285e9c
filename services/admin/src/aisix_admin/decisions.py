"""What each call of the API wants of one resource: from what was sent and what is stored to an `Edit`. Pure.

All dialects decide here, so that a rule holds whichever door a document came in by. Each function raises `Invalid` with
everything that is wrong, and may be asked again for a row that changed meanwhile.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from aisix_common.errors import Problem
from aisix_common.resources import API_KEYS, Kind, Rejected, document, hash_key, masked, read
from aisix_common.resources.reading import one_spelling
from aisix_common.secret import Secret, is_reference

from .auth import AdminKeys
from .caller_keys import MOST_PREVIOUS, Admitted, admit
from .errors import Invalid, Undecodable, Unknown
from .history import Version
from .merge_patch import merge_patch
from .planning import Edit
from .references import NO_PROVIDERS, References, texts_in
from .rows import Row
from .validation import created, replaced, to_store

LONGEST_OVERLAP: Final = 30 * 24 * 3600
"""Seconds."""
_CREDENTIALS: Final = ("key_hash", "previous_keys", "disabled", "expires_at")
"""Fields of a caller key that no step back in history brings back."""


@dataclass(frozen=True, slots=True)
class Decisions:
    """The rules need to know which keys are the admin's own, and where secret references lead."""

    admin_keys: AdminKeys
    references: References = NO_PROVIDERS

    def along(self, coming: Collection[str], going: Collection[str]) -> "Decisions":
        """The same for what is written together with secret providers (`<manager>/<name>`) that come and go."""
        return replace(self, references=self.references.along(coming, going))

    def create(
        self, kind: Kind[Any], id: str, sent: Mapping[str, Any], make: Callable[[], Secret] | None = None
    ) -> tuple[Edit, Secret | None]:
        """A new resource. `make` makes a caller key where the document brings none; it comes back to be shown once."""
        admitted = self._admit(kind, sent, make=make)
        value = self._referring(kind, created(kind, admitted.document, admitted.flaws), None)
        return Edit(kind, id, "created", value, document(kind, value)), admitted.plaintext

    def replace(
        self, kind: Kind[Any], row: Row | None, id: str, sent: Mapping[str, Any], action: str = "replaced"
    ) -> Edit:
        """The whole document anew. Fields that only others know stay as they are stored. Raises Unknown."""
        if row is None:
            raise Unknown
        loaded = read(kind, row.value)
        old = None if isinstance(loaded, Rejected) else loaded.value
        admitted = self._admit(kind, sent, stored=_stored_hash(kind, old))
        value = self._referring(kind, replaced(kind, admitted.document, old, admitted.flaws), old)
        return Edit(kind, id, action, value, to_store(kind, value, old, row.value))

    def patch(self, kind: Kind[Any], row: Row | None, id: str, patch: Mapping[str, Any]) -> Edit:
        """JSON merge patch on what a GET shows. Raises Unknown, and Undecodable for a row that no GET can show."""
        return self.replace(kind, row, id, _with(kind, masked(kind, _typed(kind, row)), patch), "patched")

    def delete(self, kind: Kind[Any], row: Row | None, id: str) -> Edit:
        """Raises Unknown."""
        if row is None:
            raise Unknown
        return Edit(kind, id, "deleted")

    def rotate(self, row: Row | None, id: str, new: Secret, overlap: int, now: datetime) -> Edit:
        """A new key for a caller; the one before stays valid for `overlap` seconds, and 0 ends every earlier one.

        Raises Unknown, Undecodable.
        """
        current = _typed(API_KEYS, row)
        if is_reference(current.key_hash):
            reason = "this key's hash comes from a secret manager: rotate it there"
            raise Invalid.schema([Problem("/key_hash", reason)])
        plain = document(API_KEYS, current)
        kept: list[dict[str, str]] = []
        if overlap:  # else the key is being withdrawn, and with it whatever is older
            kept = [{"hash": current.key_hash, "until": _moment(now + timedelta(seconds=overlap))}]
            kept += [
                {"hash": each.hash, "until": _moment(each.until)} for each in current.previous_keys if each.until > now
            ]
        plain["key_hash"] = hash_key(new.reveal())
        plain.pop("previous_keys", None)
        if kept:
            plain["previous_keys"] = kept[:MOST_PREVIOUS]
        return self.replace(API_KEYS, row, id, plain, "rotated")

    def roll_back(
        self, kind: Kind[Any], row: Row | None, id: str, version: Version, also: Mapping[str, Any] | None
    ) -> Edit:
        """An older version again, with the present credential. `also` is merged in: secrets that must be given."""
        current = _typed(kind, row)
        wanted = _credentials_of(kind, document(kind, current), _value(version))
        return self.replace(kind, row, id, _with(kind, wanted, also), "rolled_back")

    def restore(
        self, kind: Kind[Any], id: str, version: Version, last: Version, also: Mapping[str, Any] | None
    ) -> Edit:
        """A deleted resource again. Its secrets are gone: `also` brings them. A caller key comes back disabled.

        `last` is the newest version that has a document: its caller key is the one that was valid at the end.
        """
        wanted = _credentials_of(kind, _value(last), _value(version))
        merged = _with(kind, wanted, also)
        if kind is API_KEYS:
            merged["disabled"] = True
        admitted = self._admit(kind, merged, stored=wanted.get("key_hash"))
        value = self._referring(kind, created(kind, admitted.document, admitted.flaws), None)
        return Edit(kind, id, "restored", value, document(kind, value))

    def _referring(self, kind: Kind[Any], value: Any, old: Any) -> Any:
        """`value` with its references in their long form. Those that `old`, which it replaces, holds already may
        stay as they are. Raises Invalid."""
        known = texts_in(kind, old)
        found = self.references.flaws(kind, value, known)
        if found:
            raise Invalid.schema([Problem(flaw.pointer, flaw.reason) for flaw in found])
        return self.references.spelled(kind, value, known)

    def _admit(
        self,
        kind: Kind[Any],
        sent: Mapping[str, Any],
        *,
        make: Callable[[], Secret] | None = None,
        stored: str | None = None,
    ) -> Admitted:
        if kind is not API_KEYS:
            return Admitted(dict(sent))
        return admit(sent, self.admin_keys, make=make, stored=stored)


def require_overlap(value: object) -> int:
    """`overlap_seconds` of a rotation. Raises Invalid."""
    if type(value) is not int or not 0 <= value <= LONGEST_OVERLAP:
        raise Invalid.schema([Problem("/overlap_seconds", f"must be a whole number from 0 to {LONGEST_OVERLAP}")])
    return value


def _typed(kind: Kind[Any], row: Row | None) -> Any:
    if row is None:
        raise Unknown
    loaded = read(kind, row.value)
    if isinstance(loaded, Rejected):
        raise Undecodable(kind.name, Problem("", loaded.message))
    return loaded.value


def _stored_hash(kind: Kind[Any], current: Any) -> str | None:
    return current.key_hash if kind is API_KEYS and current is not None else None


def _value(version: Version) -> dict[str, Any]:
    if version.value is None:
        why = "was too large to be kept" if version.dropped else "is the deletion: it has no document"
        raise Invalid.schema([Problem("/version", f"this version {why}")])
    return dict(version.value)


def _credentials_of(kind: Kind[Any], present: Mapping[str, Any], past: dict[str, Any]) -> dict[str, Any]:
    """`past` with the credential fields of `present`. Other kinds' secrets are masks already, which keep theirs."""
    if kind is not API_KEYS:
        return past
    plain = {name: item for name, item in past.items() if name not in _CREDENTIALS}
    return plain | {name: present[name] for name in _CREDENTIALS if name in present}


def _with(kind: Kind[Any], wanted: Mapping[str, Any], also: Mapping[str, Any] | None) -> dict[str, Any]:
    """`wanted` with the merge patch `also`, which may use older spellings, and bring a `key` in place of its hash."""
    given, twice = one_spelling(kind, dict(also or {}))
    if twice is not None:
        raise Invalid.schema([Problem(twice.pointer, twice.reason)])
    if kind is API_KEYS and given.get("key") is not None:
        given = {"key_hash": None} | given
    merged: dict[str, Any] = merge_patch(wanted, given)
    return merged


def _moment(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
