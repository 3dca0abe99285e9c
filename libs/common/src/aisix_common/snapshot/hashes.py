"""The two fingerprints of `/status/config` (control-plane 2.7), over documents whose secrets are in clear.

Sealing the same secret again gives another text, so every sealed text that can be opened is taken as what it stands
for: the same content has the same hash under whichever key, and the hash that it has in clear. References stay
references.

They read every row: compute them on demand, off the loop. One document at a time is opened, and none is kept.
"""

import hashlib
from bisect import bisect
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Any, Final, TypeAlias

import msgspec

from aisix_common.resources import BY_NAME, SecretJson
from aisix_common.resources.flaw import Path
from aisix_common.secret import Secret, is_sealed
from aisix_common.secrets.envelope import NO_KEYRING, Keyring
from aisix_common.secrets.rows import context

from .opening import may_be_sealed
from .tables import Entry, RejectedRow, Snapshot

_UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError)
_DEEPEST: Final = 64
"""Levels of a document that are looked into: no kind has as many."""
_PORTION: Final = 500
"""Rows that are sorted at once, more or less."""

_Keyed: TypeAlias = tuple[bytes, str, Entry[Any] | RejectedRow]
"""Key, kind, row."""


def source_hash(snapshot: Snapshot, keyring: Keyring = NO_KEYRING) -> str:
    """SHA-256 (hex) over every row as it stands in the source, rejected ones included. `keyring` as in `content`."""
    return _digest(_observed(snapshot), keyring)


def config_hash(snapshot: Snapshot, keyring: Keyring = NO_KEYRING) -> str:
    """SHA-256 (hex) over the rows as they are served, last good values included. `keyring` as in `content`."""
    return _digest(_served(snapshot), keyring)


def content(kind: str, row: Entry[Any] | RejectedRow, keyring: Keyring = NO_KEYRING) -> bytes:
    """The canonical document of a row, with every sealed text in clear that opens; of what is no JSON its bytes.

    A row that is served was opened when it was read, so its secrets need no key, be it there any more or not. `keyring`
    opens the others: in fields that this build does not know or does not apply, and in rows that are not served.
    """
    if not may_be_sealed(row.raw):
        return canonical(row.raw)
    try:
        document = msgspec.json.decode(row.raw)
        _Opening(kind, row, keyring).visit(document, ())
        return msgspec.json.encode(document, order="deterministic")
    except _UNREADABLE:
        return canonical(row.raw)


def canonical(raw: bytes) -> bytes:
    """JSON with keys sorted by code point at every depth and no white space; other bytes as they are."""
    try:
        return msgspec.json.encode(msgspec.json.decode(raw), order="deterministic")
    except _UNREADABLE:
        return raw


def differs(kind: str, old: Entry[Any], new: Entry[Any], keyring: Keyring = NO_KEYRING) -> bool:
    """Whether two rows differ in content, not in spelling or sealing alone: whether a hash over them would."""
    return old.raw != new.raw and content(kind, old, keyring) != content(kind, new, keyring)


class _Opening:
    """Opens the sealed texts of one row's document, in place."""

    def __init__(self, kind: str, row: Entry[Any] | RejectedRow, keyring: Keyring) -> None:
        self._kind = kind
        self._row = row
        self._keyring = keyring

    def visit(self, document: Any, at: Path) -> None:
        """Open what lies in an object or a list; other values hold nothing."""
        items: Iterable[tuple[Any, Any]]
        if isinstance(document, dict):
            items = document.items()
        elif isinstance(document, list):
            items = enumerate(document)
        else:
            return
        for name, item in items:
            if isinstance(item, str):
                if is_sealed(item):
                    document[name] = self._clear(item, (*at, name))
            elif isinstance(item, (dict, list)) and len(at) < _DEEPEST:
                self.visit(item, (*at, name))

    def _clear(self, text: str, at: Path) -> Any:
        """What was sealed; the text itself where it does not open."""
        kind = BY_NAME.get(self._kind)
        if kind is not None:  # a renamed field was sealed under its present name
            at = (kind.renamed.get(str(at[0]), at[0]), *at[1:])
        secret = _secret_at(self._row, at)
        if secret is not None:
            return secret.value() if isinstance(secret, SecretJson) else secret.reveal()
        try:
            return self._keyring.open(text, context(self._kind, self._row.id, at))
        except ValueError:  # CannotOpen is one
            return text


def _secret_at(row: Entry[Any] | RejectedRow, at: Path) -> Secret | None:
    """The secret at a path, as it was read: opened, or a reference. None where there is none, and in rows that are not
    served."""
    if isinstance(row, RejectedRow):
        return None
    value: Any = row.value if row.unresolved is None else row.unresolved
    for part in at:
        if isinstance(value, msgspec.Struct) and part in (names := value.__struct_encode_fields__):
            value = getattr(value, value.__struct_fields__[names.index(str(part))])
        elif isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, tuple) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            return None
    return value if isinstance(value, Secret) else None


def _served(snapshot: Snapshot) -> Iterable[tuple[str, str, Entry[Any]]]:
    for kind, table in snapshot.tables.items():
        start = f"{snapshot.prefix}/{kind}/"
        for entry in table.by_id.values():
            yield start + entry.id, kind, entry


def _observed(snapshot: Snapshot) -> Iterable[tuple[str, str, Entry[Any] | RejectedRow]]:
    yield from ((key, kind, entry) for key, kind, entry in _served(snapshot) if key not in snapshot.rejected)
    yield from ((key, row.kind, row) for key, row in snapshot.rejected.items())


def _digest(rows: Iterable[tuple[str, str, Entry[Any] | RejectedRow]], keyring: Keyring) -> str:
    digest = hashlib.sha256()
    for key, kind, row in _in_order([(key.encode("utf-8", "surrogateescape"), kind, row) for key, kind, row in rows]):
        digest.update(key + b"\x00" + content(kind, row, keyring) + b"\n")
    return digest.hexdigest()


def _in_order(rows: list[_Keyed]) -> Iterator[_Keyed]:
    """By key, in portions: sorting 50,000 at once would keep every other thread waiting for 50 ms."""
    bounds = sorted(key for key, _, _ in rows[::_PORTION])
    portions: list[list[_Keyed]] = [[] for _ in range(len(bounds) + 1)]
    for row in rows:
        portions[bisect(bounds, row[0])].append(row)
    for portion in portions:
        portion.sort(key=itemgetter(0))
        yield from portion
