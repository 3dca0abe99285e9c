"""The secrets of the Cloud's rows on their way into the local etcd: which of them can be read, and the row with those
sealed. Pure, but for the nonces.

- A row that reads as its kind: its secrets are known by type. Members that this build does not know survive; those that
  look like a secret by their name are sealed for their place, where a newer proxy opens them.
- A row that does not, or of a kind that is not known: the same by name, wherever in the document. Everything else of it
  stays, byte for byte, for the proxies to report.
- What is no JSON, or absurdly deep, is projected as it is, unless it may hold a secret: then WITHHELD stands for it,
  and the proxies report that they cannot read it, as they would have.

References and sealed texts stay as they are.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import msgspec

from aisix_common.resources import BY_NAME, Kind, Loaded, read
from aisix_common.resources.concealed import secrets_in
from aisix_common.resources.flaw import Path
from aisix_common.resources.reading import one_spelling
from aisix_common.resources.sensitive import SecretJson
from aisix_common.resources.walker import walk
from aisix_common.secret import SEALED, Secret, is_reference, is_sealed
from aisix_common.secrets.envelope import NONCE_BYTES, Keyring
from aisix_common.secrets.rows import context

from .secret_names import PRIVATE_KEY, SHAPES, Shape, may_hold_secret

WITHHELD: Final = b"withheld by the cloud agent: the Cloud's row is not JSON and may hold a secret"
UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError)
DEEPEST: Final = 64
"""Levels of a document that are looked into: no kind has as many."""
SMALL: Final = 32 * 1024
SMALL_SEALED: Final = 32 * SMALL - 64 * 1024
"""A text of one character takes 4 bytes in a list, and at most 114 when sealed: a small row never grows beyond this."""
_TAG_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Readable:
    """A secret of a document that anybody could read."""

    at: Path
    """Where it stands, as this document spells it."""
    where: Path
    """The same as the kind spells it: what it is sealed for."""
    secret: Secret


def presented(raw: bytes) -> bytes:
    """What is projected of a row's bytes, before sealing: WITHHELD, where they may hold a secret that nobody finds."""
    if not may_hold_secret(raw):
        return raw
    try:
        document = msgspec.json.decode(raw)
        if raw.count(b"{") + raw.count(b"[") > DEEPEST:  # else it cannot be that deep
            for _ in _by_name(document, ()):
                pass
    except UNREADABLE:
        return WITHHELD
    return raw


def readable(kind_name: str, raw: bytes) -> tuple[Readable, ...]:
    """The secrets of a row (as `presented`) that are in clear."""
    if not may_hold_secret(raw) or raw == WITHHELD:
        return ()
    kind = BY_NAME.get(kind_name)
    outcome = None if kind is None else read(kind, raw)
    document = msgspec.json.decode(raw)
    if kind is None or not isinstance(outcome, Loaded):
        found = _by_name(document, ())
        return tuple(Readable(at, spelled(kind, at), secret) for at, secret in found if _in_clear(secret))
    found = secrets_in(outcome.value)
    if any(not path.startswith("inapplicable:") for path in outcome.unknown):
        present, _ = one_spelling(kind, document)
        known = walk(kind.struct, present, strict=False, nulls=kind.nulls).cleaned
        found = chain(found, _unknown(present, known, ()))
    older = {present: name for name, present in kind.renamed.items() if name in document}
    return tuple(
        Readable((older.get(str(at[0]), at[0]), *at[1:]), at, secret) for at, secret in found if _in_clear(secret)
    )


def sealed(kind_name: str, id: str, raw: bytes, found: tuple[Readable, ...], keyring: Keyring) -> bytes:
    """The row with what was found in it sealed for its place; all the rest as it is. Raises CannotSeal."""
    texts = {
        each.at: msgspec.json.encode(keyring.seal(each.secret.reveal(), context(kind_name, id, each.where)))
        for each in found
    }
    return _put(raw, texts) if texts else raw


def size(kind_name: str, raw: bytes, keyring: Keyring) -> int:
    """The most bytes that the sealed row can have; of rows of at most SMALL bytes simply SMALL_SEALED."""
    if len(raw) <= SMALL:
        return SMALL_SEALED
    size = len(raw)
    for each in readable(kind_name, raw) if keyring else ():
        text = each.secret.reveal()
        plain = len(text.encode()) if isinstance(each.secret, SecretJson) else len(msgspec.json.encode(text))
        cipher = NONCE_BYTES + len(text.encode()) + _TAG_BYTES
        size += len(SEALED) + len(keyring.first) + 3 + (cipher + 2) // 3 * 4 - plain
    return size


def spelled(kind: Kind[Any] | None, at: Path) -> Path:
    """A path of a document as its kind spells it: a renamed field may stand under its older name."""
    return (kind.renamed.get(str(at[0]), at[0]), *at[1:]) if kind is not None and at else at


def _in_clear(secret: Secret) -> bool:
    text = secret.stored
    return bool(secret) and (text is None or not (is_reference(text) or is_sealed(text)))


def _by_name(value: Any, at: Path) -> Iterator[tuple[Path, Secret]]:
    """What looks like a secret in a JSON value, by the names of its members. Raises RecursionError."""
    if len(at) > DEEPEST:
        raise RecursionError
    if isinstance(value, dict):
        for name, item in value.items():
            shape = SHAPES.get(name)
            if shape is None:
                yield from _by_name(item, (*at, name))
            elif shape is Shape.VALUES and isinstance(item, dict):
                yield from (((*at, name, each), SecretJson.of(inner)) for each, inner in item.items())
            else:
                yield from _texts(item, (*at, name))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _by_name(item, (*at, place))
    elif isinstance(value, str) and PRIVATE_KEY in value:
        yield at, Secret(value)


def _texts(value: Any, at: Path) -> Iterator[tuple[Path, Secret]]:
    """Every text in a JSON value. Raises RecursionError."""
    if len(at) > DEEPEST:
        raise RecursionError
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _texts(item, (*at, name))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _texts(item, (*at, place))
    elif isinstance(value, str):
        yield at, Secret(value)


def _unknown(value: Any, known: Any, at: Path) -> Iterator[tuple[Path, Secret]]:
    """What looks like a secret in the members of `value` that are not in `known`, its part that the type knows."""
    if isinstance(value, dict) and isinstance(known, dict):
        yield from _by_name({name: item for name, item in value.items() if name not in known}, at)
        for name, item in known.items():
            yield from _unknown(value.get(name), item, (*at, name))
    elif isinstance(value, list) and isinstance(known, list):
        for place, (item, part) in enumerate(zip(value, known, strict=True)):
            yield from _unknown(item, part, (*at, place))


def _put(raw: bytes, texts: Mapping[Path, bytes]) -> bytes:
    """The JSON value `raw` with each text at its path, which is there; all beside the paths byte for byte."""
    if () in texts:
        return texts[()]
    inner: dict[str | int, dict[Path, bytes]] = {}
    for at, text in texts.items():
        inner.setdefault(at[0], {})[at[1:]] = text
    if isinstance(next(iter(inner)), int):
        items = msgspec.json.decode(raw, type=list[msgspec.Raw])
        made = [msgspec.Raw(_put(bytes(item), inner[n])) if n in inner else item for n, item in enumerate(items)]
        return msgspec.json.encode(made)
    members = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    for name, below in inner.items():
        members[str(name)] = msgspec.Raw(_put(bytes(members[str(name)]), below))
    return msgspec.json.encode(members)
