"""One row naming another. Pure values; who looks whether the other row exists is the reader's choice.

Reads never look (control-plane 2.6: a dangling name shows when a request needs it). The admin refuses *hard* ones when
they are written; the file source refuses soft ones too.
"""

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
