"""What differs between two documents, as paths. Pure; never gives a value that could be a secret.

The audit says which fields a write changed, and history compares two versions (both masked already).
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

MOST_PATHS: Final = 64
"""Paths that are told of one change; more become the last one, `...`."""
LONGEST_PATH: Final = 256
"""Characters of a path that are told: names inside of a document may be as long as the document."""


def changed_paths(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> tuple[str, ...]:
    """JSON pointers of the fields that differ, in the order of the fields; arrays count as a whole. Bounded."""
    found: list[str] = []
    for path, _, _ in differences(before or {}, after or {}):
        if len(found) == MOST_PATHS:
            return (*found, "...")
        found.append(path if len(path) <= LONGEST_PATH else path[:LONGEST_PATH] + "...")
    return tuple(found)


def differences(before: Mapping[str, Any], after: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(JSON pointer, before, after) of every field that differs; ABSENT where a side does not have it."""
    for name in dict.fromkeys((*before, *after)):
        old, new = before.get(name, ABSENT), after.get(name, ABSENT)
        path = f"{at}/{_escaped(name)}"
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from differences(old, new, path)
        elif type(old) is not type(new) or old != new:
            if type(old) in (int, float) and type(new) in (int, float) and old == new:
                continue  # 1 and 1.0 are one number of JSON
            yield path, old, new


class _Absent:
    """Marks the side that does not have the field."""


ABSENT: Final = _Absent()


def diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The same as JSON: `path`, and `from` and `to` where that side has the field."""
    return [
        {"path": path, **({} if old is ABSENT else {"from": old}), **({} if new is ABSENT else {"to": new})}
        for path, old, new in differences(before, after)
    ]


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
