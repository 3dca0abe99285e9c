"""What stands around documents in the older dialect: items, lists, and the texts of its refusals.

Knows no kind, no request and no store.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aisix_common.errors import Problem
from aisix_common.resources import Flaw

from ...errors import CallerError, Invalid
from ...rows import Row

LONGEST_ID: Final = 128
_NO_JSON: Final = "the body is not JSON: "


@dataclass(frozen=True, slots=True)
class Collection:
    """One of the two collections: its name in paths and keys, and in the texts of refusals."""

    name: str
    called: str
    taken: str
    """What is said when the name of a row is another row's."""

    def key(self, id: str) -> str:
        """What the dialect calls a resource by: it looks like a key of etcd, and is none."""
        return f"/{self.name}/{id}"

    def item(self, id: str, value: Mapping[str, Any], row: Row | None = None) -> dict[str, Any]:
        """A resource. The indices are those of `row`; the answer to a write has none."""
        entry: dict[str, Any] = {"key": self.key(id), "value": value}
        if row is not None:
            if row.created:
                entry["created_index"] = row.created
            entry["modified_index"] = row.revision
        return entry

    def removed(self, id: str) -> dict[str, Any]:
        """The answer to DELETE."""
        return {"deleted": 1, "key": self.key(id)}


def listed(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The answer to GET of a collection."""
    return {"total": len(items), "list": items}


class Missing(CallerError):
    """There is nothing with this id, or nothing that this dialect can show."""

    status = 404

    def __init__(self, collection: Collection, id: str, more: str = "") -> None:
        super().__init__(f"{collection.called} with ID {id[:LONGEST_ID]} not found{more}")


class Taken(CallerError):
    """The name, or the key, is another row's: 400 in this dialect."""

    def __init__(self, collection: Collection) -> None:
        super().__init__(collection.taken)


class Misshapen(Invalid):
    """The document breaks rules; the message has a line for each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        found = tuple(problems)
        lines = "\n".join(f'property "{each.path or "/"}" validation failed: {each.reason}' for each in found)
        super().__init__(f"JSON schema validation error: {lines}", found)


def misshapen(flaws: Iterable[Flaw]) -> Misshapen:
    """The refusal of a document with these flaws."""
    return Misshapen(Problem(flaw.pointer if flaw.at else "", flaw.reason) for flaw in flaws)


def unreadable(error: Invalid) -> Invalid:
    """The refusal of a body that is no JSON object, in the words of this dialect."""
    if error.problems:
        return Misshapen(error.problems)
    return Invalid(f"Invalid JSON: {error.message.removeprefix(_NO_JSON)}")


def require_sane(id: str) -> None:
    """Raise Invalid for an id that clients could not name again in a path, or not see. It is chosen by a PUT."""
    sane = 0 < len(id) <= LONGEST_ID and id.isprintable() and id == id.strip()
    if not sane or "/" in id or id in (".", ".."):
        raise Invalid(f"the id in the path must be 1 to {LONGEST_ID} printable characters, without `/`")
