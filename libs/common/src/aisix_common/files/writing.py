"""JSON values as YAML text that every reader of YAML 1.1 and 1.2 understands alike: in doubt a text is quoted. Pure."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from aisix_common.yaml12 import resolve

_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_./@-]*")
_WORDS: Final = frozenset({"y", "n", "yes", "no", "on", "off"})
"""Booleans of YAML 1.1."""
_UNSEEN: Final = re.compile(r"[^ -~\u00a0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]|[\u2028\u2029]")


def written(document: Mapping[str, Any]) -> str:
    """`document` as one YAML document, with its marker and a final newline."""
    return "\n".join(["---", *_mapping(document, 0), ""])


def scalar(value: Any) -> str:
    """A text, number, truth value or null on one line."""
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS and isinstance(resolve(value), str):
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return _UNSEEN.sub(lambda match: _escape(ord(match[0])), quoted)


def _escape(point: int) -> str:
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def _mapping(value: Mapping[str, Any], indent: int) -> Iterator[str]:
    for name, item in value.items():
        head = f"{' ' * indent}{scalar(name)}:"
        if isinstance(item, dict) and item:
            yield head
            yield from _mapping(item, indent + 2)
        elif isinstance(item, list) and item:
            yield head
            yield from _sequence(item, indent)
        else:
            yield f"{head} {_leaf(item)}"


def _sequence(value: list[Any], indent: int) -> Iterator[str]:
    for item in value:
        if isinstance(item, dict) and item:
            lines = _mapping(item, indent + 2)
        elif isinstance(item, list) and item:
            lines = _sequence(item, indent + 2)
        else:
            yield f"{' ' * indent}- {_leaf(item)}"
            continue
        for place, line in enumerate(lines):
            yield f"{' ' * indent}- {line.lstrip(' ')}" if place == 0 else line


def _leaf(item: Any) -> str:
    return "{}" if item == {} and isinstance(item, dict) else "[]" if isinstance(item, list) else scalar(item)
