"""One thing wrong with a resource's document: where, which rule, and at which step it was found.

Never holds a value of the document: status pages, heartbeats, logs and admin answers show these texts as they are
(control-plane 2.2, trap 18). Names of fields are shown, shortened.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from aisix_common.errors import AisixError, Problem

Step: TypeAlias = Literal["schema", "parse"]
"""`schema`: types, required fields, ranges, patterns, rules between fields. `parse`: both spellings of a renamed field,
integers wider than their type or written with a fraction. They are two kinds of failure on `/status/config`."""

Path: TypeAlias = tuple[str | int, ...]

LONGEST_NAME: Final = 128
"""Characters of a field name that are shown; whoever writes longer ones is not worth the log space."""


@dataclass(frozen=True, slots=True)
class Flaw:
    """A broken rule at `at`, the path from the document's root (empty: the document itself)."""

    at: Path
    reason: str
    step: Step = "schema"

    @property
    def pointer(self) -> str:
        """The place as a JSON pointer; the document itself is `/`."""
        return "".join(f"/{_escaped(part)}" for part in self.at) or "/"

    @property
    def problem(self) -> Problem:
        """The same for lists of problems: a dotted path with `[n]` for list items."""
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{_short(part)}" for part in self.at)
        return Problem(path.removeprefix("."), self.reason)

    def text(self, type_name: str) -> str:
        """The whole sentence, as `last_error` and `error_msg` carry it. `type_name` is the kind's, such as `Model`."""
        if self.step == "parse":
            return f"malformed {type_name} payload: at `{self.pointer}`: {self.reason}"
        return f"schema validation failed at `{self.pointer}`: {self.reason}"


class Refused(AisixError):
    """A document that must not be written. `flaws` are all that were found, in the order of the document's fields."""

    def __init__(self, type_name: str, flaws: Sequence[Flaw]) -> None:
        self.flaws = tuple(flaws)
        super().__init__(flaws[0].text(type_name))

    @property
    def problems(self) -> list[Problem]:
        """Every flaw as path and reason."""
        return [flaw.problem for flaw in self.flaws]


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[:LONGEST_NAME] + "..."


def _escaped(part: str | int) -> str:
    return _short(str(part)).replace("~", "~0").replace("/", "~1")
