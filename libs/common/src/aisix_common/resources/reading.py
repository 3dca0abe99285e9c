"""The lenient read: what every service does with a row's bytes (control-plane 2.2).

A row written by a newer or foreign writer must not become an outage, so unknown fields are ignored and reported; a row
that cannot be meant is rejected with the first flaw. Never raises.
"""

from collections.abc import Set
from typing import Any, Final, Generic, Literal, TypeAlias

import msgspec

from .flaw import Flaw
from .kind import Kind, Resource
from .sensitive import conceal
from .walker import walk

Failure: TypeAlias = Literal[
    "bad_key", "non_json", "unknown_kind", "schema_failed", "parse_failed", "secret_sealed", "secret_unresolved"
]
"""Why a row is not served: `last_error_kind` of `/status/config`. The last two are ours: a secret that the keyring does
not open, and a reference that leads to none."""

MOST_UNKNOWN: Final = 64
TRUNCATED: Final = "...truncated"

_UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError)
"""All that decoding foreign bytes can raise: broken JSON, broken UTF-8 and absurd numbers, absurd depth."""
_ZEROS: Final = bytes.maketrans(b"123456789", b"0" * 9)
_LONG: Final = b"0" * 19
"""Only numbers this long can be wider than 64 bits, which is beyond msgspec's bounds (and translating is four times
faster than looking with a regular expression)."""


class Loaded(msgspec.Struct, Generic[Resource], frozen=True, gc=False):
    """A row that is served. `unknown`: sorted paths of fields nobody knows, and `inapplicable:<field>`."""

    value: Resource
    unknown: tuple[str, ...] = ()


class Rejected(msgspec.Struct, frozen=True):
    """A row that is not. `message` holds no value of the row."""

    failure: Failure
    message: str


def read(kind: Kind[Resource], raw: bytes) -> Loaded[Resource] | Rejected:
    """Read the bytes of a row. The well-formed row costs one typed decode; every other is walked."""
    try:
        value = kind.decoder.decode(raw)
    except _UNREADABLE:
        return _read_slowly(kind, raw)
    if _LONG in raw.translate(_ZEROS) or (not kind.nulls and b"null" in raw):
        return _read_slowly(kind, raw)
    return _judged(kind, value)


def _read_slowly(kind: Kind[Resource], raw: bytes) -> Loaded[Resource] | Rejected:
    try:
        document = msgspec.json.decode(raw)
    except _UNREADABLE:
        return Rejected("non_json", "value is not valid JSON in UTF-8")
    document, flaw = one_spelling(kind, document)
    if flaw:
        return _rejected(kind, flaw)
    findings = walk(kind.struct, document, strict=False, nulls=kind.nulls)
    if findings.flaws:
        return _rejected(kind, next((each for each in findings.flaws if each.step == "schema"), findings.flaws[0]))
    try:
        value = msgspec.convert(findings.cleaned, kind.struct, dec_hook=conceal)
    except _UNREADABLE:
        return Rejected("parse_failed", f"malformed {kind.type_name} payload")
    return _judged(kind, value, findings.unknown - kind.tombstones)


def _judged(kind: Kind[Resource], value: Resource, unknown: Set[str] = frozenset()) -> Loaded[Resource] | Rejected:
    flaws = kind.rules(value, False)
    if flaws:
        return _rejected(kind, flaws[0])
    value, inapplicable = kind.settle(value)
    if not unknown and not inapplicable:
        return Loaded(value)
    paths = tuple(sorted(unknown | {f"inapplicable:{name}" for name in inapplicable}))
    return Loaded(value, paths if len(paths) <= MOST_UNKNOWN else (*paths[:MOST_UNKNOWN], TRUNCATED))


def _rejected(kind: Kind[Any], flaw: Flaw) -> Rejected:
    return Rejected("parse_failed" if flaw.step == "parse" else "schema_failed", flaw.text(kind.type_name))


def one_spelling(kind: Kind[Any], document: Any) -> tuple[Any, Flaw | None]:
    """`document` with renamed fields under their present name, or the flaw when both spellings are given."""
    if not isinstance(document, dict):
        return document, None
    for older, present in kind.renamed.items():
        if older in document:
            if present in document:
                return document, Flaw(
                    (present,), f"`{present}` and its older spelling `{older}` are both given", "parse"
                )
            document = {present if name == older else name: value for name, value in document.items()}
    return document, None
