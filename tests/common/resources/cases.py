"""The hand-made table of documents and what becomes of them, one file per kind under `cases/`.

name      what the case shows
document  any JSON value
lenient   what a reader makes of it: "ok" (left out), "schema_failed" or "parse_failed"
strict    whether a writer may store it: "ok" (left out) or "refused"
at        JSON pointer of the first flaw (of the strict check, where the lenient read is content)
unknown   what the lenient read reports
"""

from pathlib import Path
from typing import Any

import msgspec

FOLDER = Path(__file__).parent / "cases"


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row of the table."""

    name: str
    document: Any
    lenient: str = "ok"
    strict: str = "ok"
    at: str | None = None
    unknown: tuple[str, ...] = ()


def load(kind: str) -> list[Case]:
    """The cases of a kind."""
    return msgspec.json.decode((FOLDER / f"{kind}.json").read_bytes(), type=list[Case])
