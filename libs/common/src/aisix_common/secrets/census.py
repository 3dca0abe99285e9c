"""What the secrets of stored rows are - under which key, in clear, references - and a row with all of them under the
first key. Pure: bytes in, bytes out.

A row is changed where its secrets stand and nowhere else: fields that this build does not know, the order of keys and
the spelling of numbers stay as another writer left them.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import msgspec

from aisix_common.resources import Kind, Loaded, read
from aisix_common.resources.concealed import references_in, secrets_in
from aisix_common.resources.flaw import Path
from aisix_common.secret import is_reference, is_sealed

from .envelope import CannotOpen, Keyring, key_id_of
from .rows import opened, resealed


class Unreadable(ValueError):
    """A row that is none of its kind. The message holds no value."""


@dataclass(frozen=True, slots=True)
class Held:
    """The secrets of a row."""

    keys: tuple[str, ...] = ()
    """The id of the key of each sealed one; empty for one that names none."""
    clear: int = 0
    references: int = 0
    unopened: str = ""
    """Why the first one that does not open does not; empty where all of them open."""


@dataclass(slots=True)
class Tally:
    """Rows, and secrets in them."""

    rows: int = 0
    values: int = 0

    def add(self, values: int) -> None:
        """One more row, if it has any."""
        self.rows += bool(values)
        self.values += values


@dataclass(slots=True)
class Census:
    """What many rows hold."""

    rows: int = 0
    keys: dict[str, Tally] = field(default_factory=dict)
    clear: Tally = field(default_factory=Tally)
    references: Tally = field(default_factory=Tally)
    unopened: dict[str, str] = field(default_factory=dict)
    """Row, why a secret of it does not open."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Row, why it cannot be read as its kind."""

    def add(self, row: str, kind: Kind[Any], id: str, raw: bytes, keyring: Keyring) -> None:
        """Count one more; `row` is what it is called in reports."""
        self.rows += 1
        try:
            held = look(kind, id, raw, keyring)
        except Unreadable as error:
            self.unreadable[row] = str(error)
            return
        for key, values in Counter(held.keys).items():
            self.keys.setdefault(key, Tally()).add(values)
        self.clear.add(held.clear)
        self.references.add(held.references)
        if held.unopened:
            self.unopened[row] = held.unopened


def look(kind: Kind[Any], id: str, raw: bytes, keyring: Keyring) -> Held:
    """What a row holds. Raises Unreadable."""
    value = _value(kind, raw)
    keys: list[str] = []
    clear = 0
    for _, secret in secrets_in(value):
        text = secret.stored
        if text is not None and is_sealed(text):
            keys.append(_key_of(text))
        elif secret and not (text is not None and is_reference(text)):
            clear += 1
    unopened = ""
    try:
        opened(kind, id, value, keyring)
    except CannotOpen as error:
        unopened = str(error)
    return Held(tuple(keys), clear, sum(1 for _ in references_in(kind, value)), unopened)


def renewed(kind: Kind[Any], id: str, raw: bytes, keyring: Keyring) -> bytes | None:
    """The row with every secret under the keyring's first key; None where that is so.

    Raises Unreadable, and CannotOpen where a secret does not open: then nothing of the row is changed.
    """
    value = _value(kind, raw)
    before = dict(secrets_in(value))
    after = secrets_in(resealed(kind, id, value, keyring))
    new = {at: secret.stored for at, secret in after if secret is not before[at]}
    made = raw
    for at, text in new.items():
        made = _put(made, _spelled(kind, raw, at), msgspec.json.encode(text))
    return made if new else None


def _value(kind: Kind[Any], raw: bytes) -> Any:
    outcome = read(kind, raw)
    if not isinstance(outcome, Loaded):
        raise Unreadable(outcome.message)
    return outcome.value


def _key_of(text: str) -> str:
    try:
        return key_id_of(text)
    except CannotOpen as error:
        return error.key_id


def _spelled(kind: Kind[Any], raw: bytes, at: Path) -> Path:
    """The path as this row spells it: a renamed field may stand under its older name."""
    older = [name for name, present in kind.renamed.items() if present == at[0]]
    if older and at[0] not in (members := _members(raw)):
        return next(name for name in older if name in members), *at[1:]
    return at


def _put(raw: bytes, at: Path, text: bytes) -> bytes:
    """The JSON value `raw` with `text` at a path that is there; everything beside the path as it is, byte for byte."""
    if not at:
        return text
    part = at[0]
    if isinstance(part, int):
        items = msgspec.json.decode(raw, type=list[msgspec.Raw])
        items[part] = msgspec.Raw(_put(bytes(items[part]), at[1:], text))
        return msgspec.json.encode(items)
    members = _members(raw)
    members[part] = msgspec.Raw(_put(bytes(members[part]), at[1:], text))
    return msgspec.json.encode(members)


def _members(raw: bytes) -> dict[str, msgspec.Raw]:
    return msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
