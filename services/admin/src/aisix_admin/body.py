"""Request bodies: from bytes to one JSON object, refusing what could be read in two ways. Pure; knows no framework."""

import json
from typing import Any, Final, NoReturn

from aisix_common.errors import Problem

from .errors import Invalid, TooLarge, WrongMediaType

BODY_LIMIT: Final = 2 * 1024 * 1024
"""Bytes; over it the answer is 413 (contract: control-plane 5.3). etcd itself takes 1.5 MiB in a transaction."""

MOST_VALUES: Final = 50_000
"""JSON values of one body; over it the answer is 413. Checking as many takes half a second, and the loop with it."""

_DEEPEST: Final = 64
"""Levels of nesting. No document of ours has more than ten."""


def require_json(content_type: str | None) -> None:
    """Raise WrongMediaType unless the header declares JSON (`application/json`, or a `+json` type of its family)."""
    media = (content_type or "").partition(";")[0].strip().lower()
    family, _, subtype = media.partition("/")
    if family != "application" or not (subtype == "json" or subtype.endswith("+json")):
        raise WrongMediaType("send the document as JSON, with `Content-Type: application/json`")


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`.

    Raises Invalid for bytes that are no UTF-8 JSON (a byte-order mark, NaN and Infinity included), for a key that comes
    twice in one object (two readers could believe different ones), for lone surrogates, for more than 64 levels, and
    for anything but an object, and TooLarge for more than MOST_VALUES. Messages name the position, never the text.
    """
    try:
        document = json.loads(body.decode("utf-8"), object_pairs_hook=_pairs, parse_constant=_constant)
    except UnicodeDecodeError as error:
        raise Invalid(f"the body is not JSON: byte {error.start} is no UTF-8") from None
    except json.JSONDecodeError as error:
        raise Invalid(f"the body is not JSON: line {error.lineno} column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError:  # an integer with more digits than Python converts
        raise Invalid("the body is not usable JSON: a number in it is too long") from None
    _check(document, _DEEPEST, [MOST_VALUES])
    if not isinstance(document, dict):
        raise Invalid.schema([Problem("", "must be an object")])
    return document


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise Invalid("the body is ambiguous: an object in it has the same key twice")
    return document


def _constant(_: str) -> NoReturn:
    raise Invalid("the body is not JSON: NaN and Infinity are not numbers of JSON")


def _too_deep() -> Invalid:
    return Invalid(f"the body nests deeper than {_DEEPEST} levels")


def _check(value: Any, levels: int, left: list[int]) -> None:
    """`left` counts down how many more values the body may have."""
    if levels == 0:
        raise _too_deep()
    left[0] -= 1
    if left[0] < 0:
        raise TooLarge(f"the body holds more than {MOST_VALUES} values")
    if isinstance(value, str):
        _text(value)
    elif isinstance(value, list):
        for item in value:
            _check(item, levels - 1, left)
    elif isinstance(value, dict):
        for key, item in value.items():
            _text(key)
            _check(item, levels - 1, left)
    elif isinstance(value, float) and value in (float("inf"), float("-inf")):
        raise Invalid("the body is not usable JSON: a number in it is out of range")


def _text(text: str) -> None:
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise Invalid("the body is not usable JSON: a string in it holds half of a surrogate pair")
