"""One row naming another. Pure values; who looks whether the other row exists is the reader's choice.

Reads never look (control-plane 2.6: a dangling name shows when a request needs it). The admin refuses *hard* ones when
they are written; the file source refuses soft ones too.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from .flaw import Path


@dataclass(frozen=True, slots=True)
class Reference:
    """`at` (in the document that refers) names a row of `kind` by its id, or by its name."""

    at: Path
    kind: str
    by: Literal["id", "name"]
    value: str
    hard: bool = True
    """Soft: the row may be made later, as a model that a caller key already allows."""


def by_name(kind: str, at: Path, names: Iterable[str], *, hard: bool = True) -> list[Reference]:
    """References of a list of names, which stands at `at`. What holds a `*` is a pattern, and names no single row."""
    return [
        Reference((*at, place), kind, "name", name, hard)
        for place, name in enumerate(names)
        if name and "*" not in name
    ]


def by_id(kind: str, at: Path, value: object) -> list[Reference]:
    """The reference of one field, if it holds an id."""
    return [Reference(at, kind, "id", value)] if isinstance(value, str) and value else []
