"""From a client's document to a typed resource, or to the list of everything wrong with it. Pure.

First the derived marshmallow schema (all problems of the fields), then the strict check that every writer of resources
uses (rules between fields). Both hold the same documents to be right; a test says so.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from aisix_common.errors import Problem
from aisix_common.resources import Flaw, Kind, Refused, check, document
from aisix_common.resources.concealed import secrets_in
from aisix_common.resources.reading import one_spelling
from aisix_common.secret import is_sealed

from .carried import carried
from .errors import Invalid
from .masks import moved, require_same_destination, restore
from .schemas import flaws


def created(kind: Kind[Any], sent: Mapping[str, Any], noted: Sequence[Flaw] = ()) -> Any:
    """The typed resource of a document that is to be created; `noted` is what was found in it before.

    Raises Invalid with everything wrong.
    """
    return _typed(kind, sent, None, noted)[0]


def replaced(kind: Kind[Any], sent: Mapping[str, Any], current: Any, noted: Sequence[Flaw] = ()) -> Any:
    """The typed resource that replaces `current` (typed; None where the stored row is not readable).

    `noted` is what was found in it before. Raises Invalid with everything wrong.
    """
    stored = document(kind, current) if current is not None else None
    value, kept = _typed(kind, sent, stored, noted)
    if current is not None:
        require_same_destination(kind, kept, current, value)
    return value


def to_store(kind: Kind[Any], value: Any, current: Any, row: bytes) -> dict[str, Any]:
    """The document of `value` (typed, just validated) that replaces the bytes `row`, read as `current`.

    Fields of the row that this build does not know stay in it (see `carried`), unless the row is not readable
    (`current` is None), or secrets now go elsewhere: an unknown field may be one, and nobody could send it anew.
    """
    plain = document(kind, value)
    return plain if current is None or moved(kind, current, value) else carried(kind, row, plain)


def _typed(
    kind: Kind[Any], sent: Mapping[str, Any], stored: Mapping[str, Any] | None, noted: Sequence[Flaw]
) -> tuple[Any, list[tuple[str | int, ...]]]:
    renamed, twice = one_spelling(kind, dict(sent))
    if twice is not None:
        raise _invalid(kind, [*noted, twice])
    restored = restore(kind, renamed, stored)
    found = [*noted, *restored.missing, *flaws(kind, restored.document)]
    if found:
        raise _invalid(kind, found)
    try:
        value = check(kind, restored.document)
    except Refused as refused:
        raise _invalid(kind, refused.flaws) from None
    forged = [
        Flaw(at, "is what an encrypted value looks like: send the secret itself")
        for at, secret in secrets_in(value)
        if secret.stored is not None and is_sealed(secret.stored) and at not in restored.kept
    ]
    if forged:
        raise _invalid(kind, forged)
    return value, restored.kept


def _invalid(kind: Kind[Any], found: Sequence[Flaw]) -> Invalid:
    problems = [Problem("" if not flaw.at else flaw.pointer, flaw.reason) for flaw in found]
    first = found[0]
    if first.step == "parse":
        return Invalid(f"malformed {kind.type_name} payload: {first.reason} at {first.pointer}", problems)
    return Invalid.schema(problems)
