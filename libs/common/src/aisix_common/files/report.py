"""What is wrong with a resources file: every problem with its place, and the report made of them (control-plane 4).

Messages hold rules and paths. The one value of the file that is shown is an entry's name, which says where to look.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from aisix_common.errors import AisixError
from aisix_common.resources import Flaw
from aisix_common.resources.flaw import Path

from .layout import quoted

FileFailure: TypeAlias = Literal["fetch", "non_json", "parse_failed", "schema_failed"]
"""`fetch`: the file cannot be read; `non_json`: it is no YAML; `parse_failed`: a value wider than its type, or both
spellings of a field; the rest is `schema_failed`."""


@dataclass(frozen=True, slots=True)
class FileProblem:
    """One broken rule."""

    message: str
    kind: str = ""
    """Empty: the file itself."""
    index: int | None = None
    identity: str | None = None
    """Of the entry, once it is known."""
    failure: FileFailure = "schema_failed"
    dangling: bool = False
    """It is only that something names an entry which is not there."""

    @property
    def scope(self) -> str:
        """Where: `(file)`, `models[0]` or `models[0] ("gpt-4o")`."""
        if self.index is None:
            return "(file)"
        place = f"{self.kind}[{self.index}]"
        return place if self.identity is None else f"{place} ({quoted(self.identity)})"

    def __str__(self) -> str:
        return f"{self.scope}: {self.message}"


class FileRefused(AisixError):
    """A resources file of which nothing is used. Its text is the whole report, without a final newline."""

    def __init__(self, path: str, problems: Sequence[FileProblem]) -> None:
        self.path = path
        self.problems = tuple(problems)
        head = f"resources file {path}: {len(self.problems)} error(s):"
        super().__init__("\n".join([head, *(f"  - {problem}" for problem in self.problems)]))


def field_message(at: Path, reason: str) -> str:
    """How a problem with one field of an entry is worded."""
    return f"field `{Flaw(at, reason).problem.path}`: {reason}"
