"""JSON objects as their top-level members, each still in its own bytes, so that what nobody understands survives.

Stricter than msgspec where it is lax (invalid UTF-8), more lenient where real clients and providers need it (escaped
lone surrogates: half an emoji cut between two chunks). Knows no schema.
"""

import json
import re
from typing import Final, TypeVar

import msgspec

T = TypeVar("T")

_ENCODER: Final = msgspec.json.Encoder()
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ESCAPES: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_WALKER: Final = json.JSONDecoder(parse_int=str, parse_float=str)
_PATH: Final = re.compile(r"(?s)(.*?)(?: - at `\$\.?(.*)`)?\Z")
_MISSING: Final = re.compile(r"Object missing required field `(.*)`")
_TYPE: Final = re.compile(r"\b(?:str|int|float|bool)\b")
_WORDS: Final = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}


class Malformed(Exception):
    """Bytes that are not the JSON that was expected. Holds the rule and the path, never a value."""

    def __init__(self, rule: str, path: str = "") -> None:
        self.rule = rule
        self.path = path
        super().__init__(f"{path}: {rule}" if path else rule)


def read_members(data: bytes) -> dict[str, msgspec.Raw]:
    """The members of one JSON object, in order; of duplicates the last counts. Raises Malformed."""
    _check_utf8(data)
    try:
        return _MEMBERS.decode(data)
    except RecursionError:
        raise Malformed("is nested too deeply") from None
    except msgspec.ValidationError:
        raise Malformed("must be a JSON object") from None
    except msgspec.DecodeError as error:
        if not _SURROGATE.search(data):
            raise Malformed(_syntax(error)) from None
    decode_as(_MEMBERS, data)  # checked whole, on a copy without lone surrogates
    return _walk(data.decode())


def read_items(data: bytes) -> list[msgspec.Raw]:
    """The items of one JSON array. Raises Malformed."""
    try:
        return _ITEMS.decode(data)
    except RecursionError:
        raise Malformed("is nested too deeply") from None
    except msgspec.ValidationError:
        raise Malformed("must be a JSON array") from None
    except msgspec.DecodeError as error:
        if not _SURROGATE.search(data):
            raise Malformed(_syntax(error)) from None
    decode_as(_ITEMS, data)  # as in `read_members`
    return _walk_items(data.decode())


def decode_as(decoder: msgspec.json.Decoder[T], data: bytes | msgspec.Raw) -> T:
    """`data` by `decoder`, lone surrogates read as U+FFFD. Raises Malformed."""
    try:
        return decoder.decode(data)
    except RecursionError:
        raise Malformed("is nested too deeply") from None
    except UnicodeDecodeError:
        raise Malformed("is not UTF-8") from None
    except msgspec.ValidationError as error:
        raise _rule(error) from None
    except msgspec.DecodeError as error:
        repaired = _ESCAPES.sub(_without_lone_surrogate, bytes(data))
        if repaired == data:
            raise Malformed(_syntax(error)) from None
    return decode_as(decoder, repaired)


def join_items(items: list[msgspec.Raw]) -> bytes:
    """The array again, every item in the bytes it came in."""
    return _ENCODER.encode(items)


def join_members(members: dict[str, msgspec.Raw]) -> bytes:
    """The object again, every value in the bytes it came in."""
    try:
        return _ENCODER.encode(members)
    except UnicodeEncodeError:  # half an emoji in a name
        return b"{%b}" % b",".join([json.dumps(name).encode() + b":" + value for name, value in members.items()])


def _check_utf8(data: bytes) -> None:
    if data.isascii():  # the usual case, and nearly free
        return
    try:
        data.decode()
    except UnicodeDecodeError:
        raise Malformed("is not UTF-8") from None


def _without_lone_surrogate(match: re.Match[bytes]) -> bytes:
    return b"\\ufffd" if match[1] else match[0]


def _walk(text: str) -> dict[str, msgspec.Raw]:
    """The members of an object that is known to be well formed but for lone surrogates, which msgspec refuses."""
    members: dict[str, msgspec.Raw] = {}
    position = _after_space(text, _after_space(text, 0) + 1)
    while text[position] != "}":
        name, position = _WALKER.raw_decode(text, position)
        members[name], position = _walk_value(text, _after_space(text, _after_space(text, position) + 1))
    return members


def _walk_items(text: str) -> list[msgspec.Raw]:
    """As `_walk`, of an array."""
    items: list[msgspec.Raw] = []
    position = _after_space(text, _after_space(text, 0) + 1)
    while text[position] != "]":
        item, position = _walk_value(text, position)
        items.append(item)
    return items


def _walk_value(text: str, start: int) -> tuple[msgspec.Raw, int]:
    """The value that begins there, and where the next one does (or the end of what holds them)."""
    try:
        _, end = _WALKER.raw_decode(text, start)
    except RecursionError:
        raise Malformed("is nested too deeply") from None
    position = _after_space(text, end)
    if text[position] == ",":
        position = _after_space(text, position + 1)
    return msgspec.Raw(text[start:end].encode()), position


def _after_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _syntax(error: msgspec.DecodeError) -> str:
    place = re.search(r"\(byte \d+\)", str(error))
    return f"is not valid JSON {place[0]}" if place else "is not valid JSON"


def _rule(error: msgspec.ValidationError) -> Malformed:
    """msgspec's complaint in our words. The decoders given here have no enums, so no message of it quotes a value."""
    match = _PATH.match(str(error))
    text, path = (match[1], match[2] or "") if match else (str(error), "")
    path = path.replace("[...]", "[]")
    if missing := _MISSING.fullmatch(text):
        return Malformed("is required", f"{path}.{missing[1]}" if path else missing[1])
    rule = _TYPE.sub(lambda word: _WORDS[word[0]], text).replace(" | ", " or ").replace("`", "")
    return Malformed(rule[:1].lower() + rule[1:], path)
