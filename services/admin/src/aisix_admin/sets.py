"""Many resources in one body: which are meant, and everything that is wrong with them, each at its place. Pure.

A member names its kind, its document, and its id where it wants one: without an id the row of the same name is meant,
else a new one. What is stored as it was sent already is left alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import msgspec

from aisix_common.errors import Problem
from aisix_common.resources import API_KEYS, BY_NAME, MODELS, SECRET_PROVIDERS, Kind, Rejected, hash_key, read
from aisix_common.resources.reading import one_spelling
from aisix_common.secret import SEALED, is_reference

from .decisions import Decisions
from .errors import Conflict, Invalid
from .index import Place, ResourceIndex
from .planning import Edit, View
from .store import Dangling

LONGEST_ID: Final = 256
_MEMBER: Final = ("kind", "id", "value")
_SEALED: Final = SEALED.encode()
Spelling: TypeAlias = Callable[[str], str]
"""The long form of a secret reference."""
Clear: TypeAlias = Callable[[Kind[Any], str, Any], Mapping[str, Any]]
"""The document of a typed resource with this id, its secrets in clear as far as they can be opened."""


@dataclass(frozen=True, slots=True)
class Member:
    """One resource of a set. `value` None: it is to be deleted."""

    at: str
    """JSON pointer of the member in the body."""
    kind: Kind[Any]
    id: str
    value: Mapping[str, Any] | None

    @property
    def place(self) -> Place:
        """Kind and id."""
        return self.kind.name, self.id


@dataclass(frozen=True, slots=True)
class _Reader:
    """What members are read with."""

    index: ResourceIndex
    new_id: Callable[[], str]
    spelling: Spelling
    problems: list[Problem] = field(default_factory=list)


def read_set(
    body: Mapping[str, Any], index: ResourceIndex, new_id: Callable[[], str], spelling: Spelling
) -> list[Member]:
    """The members of `{"resources": [...], "delete": [...]}`. Raises Invalid with everything wrong."""
    problems = [Problem(f"/{name}", "unknown field") for name in body if name not in ("resources", "delete")]
    if "resources" not in body and "delete" not in body:
        problems.append(Problem("/resources", "required field is missing"))
    reader = _Reader(index, new_id, spelling, problems)
    members = [
        member
        for list_name, deletes in (("resources", False), ("delete", True))
        for member in _members(body.get(list_name, []), f"/{list_name}", deletes, reader)
    ]
    seen: set[Place] = set()
    for member in members:
        if member.place in seen:
            problems.append(Problem(member.at, "is here twice: two members mean the same resource"))
        seen.add(member.place)
    if problems:
        raise Invalid.schema(problems)
    return members


def _members(given: object, at: str, deletes: bool, reader: _Reader) -> Sequence[Member]:
    if not isinstance(given, list):
        reader.problems.append(Problem(at, "must be an array"))
        return ()
    found = (_member(each, f"{at}/{n}", deletes, reader) for n, each in enumerate(given))
    return [member for member in found if member is not None]


def _member(given: object, at: str, deletes: bool, reader: _Reader) -> Member | None:
    problems, index = reader.problems, reader.index
    before = len(problems)
    if not isinstance(given, dict):
        problems.append(Problem(at, "must be an object"))
        return None
    allowed = _MEMBER[:2] if deletes else _MEMBER
    problems += [Problem(f"{at}/{name}", "unknown field") for name in given if name not in allowed]
    named = given.get("kind")
    kind = BY_NAME.get(named) if isinstance(named, str) else None
    if kind is None:
        problems.append(Problem(f"{at}/kind", f"must be one of: {', '.join(BY_NAME)}"))
    value, id = given.get("value"), given.get("id")
    if not deletes and not isinstance(value, dict):
        problems.append(Problem(f"{at}/value", "must be an object"))
    if deletes and "id" not in given:
        problems.append(Problem(f"{at}/id", "required field is missing"))
    if "id" in given and not (isinstance(id, str) and (_reachable(kind, id) or _known(kind, id, index))):
        reason = f"must be 1 to {LONGEST_ID} printable characters that make one segment of a path"
        problems.append(Problem(f"{at}/id", reason))
    if len(problems) > before or kind is None:
        return None
    if deletes:
        return Member(at, kind, str(id), None)
    assert isinstance(value, dict)
    return Member(at, kind, str(id) if id is not None else _meant(kind, value, reader) or reader.new_id(), value)


def _reachable(kind: Kind[Any] | None, id: str) -> bool:
    """Whether a new row may have this id: one that every client can put into a path, and that no route of ours has."""
    taken = id in (".", "..") or (kind is MODELS and id == "status")
    return 0 < len(id) <= LONGEST_ID and id.isprintable() and "/" not in id and not taken


def _known(kind: Kind[Any] | None, id: str, index: ResourceIndex) -> bool:
    """Rows of others may have any id."""
    return kind is not None and index.get(kind.name, id) is not None


def _meant(kind: Kind[Any], value: Mapping[str, Any], reader: _Reader) -> str | None:
    """The row that has the name of `value` already."""
    if kind.singleton:
        name: object = kind.name
    elif kind is API_KEYS:
        key = value.get("key")
        name = (
            value.get("key_hash") if not isinstance(key, str) else key if is_reference(key.strip()) else hash_key(key)
        )
        name = reader.spelling(name.strip()) if isinstance(name, str) and is_reference(name.strip()) else name
    elif kind is SECRET_PROVIDERS:
        name = _identity(value)
    else:
        name = one_spelling(kind, dict(value))[0].get(kind.name_field) if kind.name_field else None
    holders = reader.index.holders(kind.name, name) if isinstance(name, str) else frozenset[str]()
    return min(holders, default=None)


def _identity(value: Mapping[str, Any]) -> str:
    """What a secret provider is known by; it is no field of its document."""
    return f"{value.get('manager')}/{value.get('name')}"


def edits_of(
    members: Sequence[Member], view: View, decisions: Decisions, clear: Clear, *, all_of_them: bool = False
) -> list[Edit]:
    """What is to be done, without what is so already unless `all_of_them` is asked for.

    Raises Invalid with the problems of all members.
    """
    problems: list[Problem] = []
    edits: list[Edit] = []
    decisions = decisions.along(*_providers(members, view))
    for member in members:
        row = view.row(*member.place)
        if member.value is None:
            if row is None:
                problems.append(Problem(f"{member.at}/id", "there is no such resource"))
            else:
                edits.append(decisions.delete(member.kind, row, member.id))
            continue
        try:
            if row is None:
                edits.append(decisions.create(member.kind, member.id, member.value)[0])
            else:
                edit = decisions.replace(member.kind, row, member.id, member.value)
                if all_of_them or not _same(edit, row.value, clear):
                    edits.append(edit)
        except Invalid as error:
            problems += _placed(f"{member.at}/value", error.problems or (Problem("", error.message),))
    if problems:
        raise Invalid.schema(problems)
    return edits


def _providers(members: Sequence[Member], view: View) -> tuple[list[str], list[str]]:
    """Secret providers that the set brings, and those that it takes away: by `<manager>/<name>`."""
    coming: list[str] = []
    going: list[str] = []
    for member in members:
        if member.kind is SECRET_PROVIDERS:
            row = view.row(*member.place)
            stored = None if row is None else read(member.kind, row.value)
            if stored is not None and not isinstance(stored, Rejected):
                going.append(stored.value.identity)
            if member.value is not None:
                coming.append(_identity(member.value))
    return coming, going


def placed(error: Exception, members: Sequence[Member]) -> Exception:
    """`error` of a write, with its problems at their places in the body."""
    places = {member.place: member.at for member in members}
    if isinstance(error, Dangling):
        problems = [Problem(f"{places[edit.place]}/value{flaw.pointer}", flaw.reason) for edit, flaw in error.found]
        return Invalid.schema(problems)
    if isinstance(error, Conflict):
        at = next((member.at for member in members if member.place == (error.kind, error.id)), "")
        error.problems = (Problem(at, error.message),)
    return error


def _placed(at: str, problems: Sequence[Problem]) -> list[Problem]:
    return [Problem(at + problem.path, problem.reason) for problem in problems]


def _same(edit: Edit, raw: bytes, clear: Clear) -> bool:
    """Whether the row is already what it is to become. A secret that was sent lies there encrypted: to be told that it
    is the same takes its key."""
    try:
        if msgspec.json.decode(raw) == edit.stored:
            return True
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    loaded = read(edit.kind, raw) if _SEALED in raw else None
    if loaded is None or isinstance(loaded, Rejected):
        return False
    return clear(edit.kind, edit.id, loaded.value) == clear(edit.kind, edit.id, edit.value)
