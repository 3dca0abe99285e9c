"""A resources file becomes rows, all of them or none: text, path and environment in, `ResourcesFile` out.

The way of an entry: shape, variables, name, names to ids, the kind's strict check; then the rules between entries. It
stops at the first problem of an entry and goes on with the next, so a report tells one thing of each bad entry.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from aisix_common.errors import ConfigurationError
from aisix_common.resources import BY_NAME, Flaw, Kind, Refused, check, document
from aisix_common.yaml12 import load as load_yaml
from aisix_common.yaml12 import resolve

from .crosscheck import Row, crosscheck
from .interpolation import BadText, interpolated
from .layout import COLLECTIONS, VERSION, VERSION_FIELD, identity_fields, identity_of, row_id
from .report import FileFailure, FileProblem, FileRefused, field_message
from .sugar import Dangling, Names, desugared

_WORDS: Final = frozenset({"true", "false", "~", "null", ""})


@dataclass(frozen=True, slots=True)
class FileRow:
    """One row of a file: what a row of etcd is, but for its revision."""

    kind: str
    id: str
    raw: bytes = field(repr=False)
    """The document as JSON. May hold secrets."""


@dataclass(frozen=True, slots=True)
class ResourcesFile:
    """A file that can be served."""

    path: str
    digest: str
    """SHA-256 (hex) of its bytes."""
    rows: tuple[FileRow, ...]


class Unusable(FileRefused):
    """FileRefused, with the digest of the bytes that were refused; empty where none could be read."""

    def __init__(self, path: str, problems: list[FileProblem], digest: str = "") -> None:
        super().__init__(path, problems)
        self.digest = digest


def read_file(path: str, environ: Mapping[str, str]) -> ResourcesFile:
    """The file at `path`. Blocks: not for the event loop. Raises Unusable."""
    try:
        raw = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise Unusable(path, [FileProblem(f"cannot read file: {reason}", failure="fetch")]) from None
    return load(raw, path, environ)


def load(raw: bytes, path: str, environ: Mapping[str, str]) -> ResourcesFile:
    """The rows of a file's bytes; `path` is only for the report. Pure. Raises Unusable with every problem."""
    digest = hashlib.sha256(raw).hexdigest()
    reading = _Reading(environ)
    rows = reading.rows(raw)
    if reading.problems:
        raise Unusable(path, reading.problems, digest)
    return ResourcesFile(path, digest, rows)


def plain(text: str) -> Any:
    """An unquoted scalar: the core schema with one spelling of each word, so that `True` and `NULL` are text."""
    value = resolve(text)
    return text if (value is None or isinstance(value, bool)) and text not in _WORDS else value


@dataclass(slots=True)
class _Entry:
    """An entry on its way."""

    kind: Kind[Any]
    index: int
    document: Any
    identity: str | None = None

    def problem(self, message: str, failure: FileFailure = "schema_failed", *, dangling: bool = False) -> FileProblem:
        return FileProblem(message, self.kind.name, self.index, self.identity, failure, dangling)


class _Reading:
    """One pass over one file. `problems` fills up on the way."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.problems: list[FileProblem] = []
        self.names: dict[str, set[str]] = {}
        """By kind, of every entry that says its name, sound or not: who names a bad entry does nothing wrong."""

    def rows(self, raw: bytes) -> tuple[FileRow, ...]:
        """Everything the file holds; only meaningful while there are no problems."""
        found: dict[tuple[str, int], list[FileProblem]] = {}
        entries = list(self._named(self._entries(raw), found))
        names = self.names
        ids = {kind: {row_id(kind, name) for name in known} for kind, known in names.items()}
        rows = [row for entry in entries if (row := self._checked(entry, Names(names, self.environ), found))]
        for problem in crosscheck(rows, names, ids):
            assert problem.index is not None
            found.setdefault((problem.kind, problem.index), []).append(problem)
        order = {kind: place for place, kind in enumerate(COLLECTIONS)}
        for place in sorted(found, key=lambda place: (order[place[0]], place[1])):
            self.problems += found[place]
        return tuple(FileRow(row.kind.name, row.id, msgspec.json.encode(document(row.kind, row.value))) for row in rows)

    def _entries(self, raw: bytes) -> Iterator[_Entry]:
        for kind_name, items in self._collections(raw):
            for index, item in enumerate(items):
                yield _Entry(BY_NAME[kind_name], index, item)

    def _collections(self, raw: bytes) -> Iterator[tuple[str, list[Any]]]:
        root = self._root(raw)
        if root is None:
            return
        version = root.get(VERSION_FIELD)
        if VERSION_FIELD not in root:
            self._file(field_message((VERSION_FIELD,), f'is missing: write {VERSION_FIELD}: "{VERSION}"'))
        elif isinstance(version, int | float) and not isinstance(version, bool):
            self._file(field_message((VERSION_FIELD,), f'must be text, not a number: put it into quotes: "{VERSION}"'))
        elif version != VERSION:
            self._file(field_message((VERSION_FIELD,), f'must be "{VERSION}", the only version there is'))
        for name in root:
            if name != VERSION_FIELD and name not in COLLECTIONS:
                self._file(field_message((name,), "is no collection of a resources file"))
        for name in COLLECTIONS:
            items = root.get(name)
            if isinstance(items, list):
                yield name, items
            elif items is not None:
                self._file(field_message((name,), "must be a sequence of mappings"))

    def _root(self, raw: bytes) -> dict[str, Any] | None:
        try:
            root = load_yaml(raw.decode("utf-8-sig"), plain)
        except UnicodeDecodeError:
            self._file("not valid YAML: the text is not UTF-8", "non_json")
            return None
        except ConfigurationError as error:
            self._file(f"not valid YAML: {error.problems[0]}", "non_json")
            return None
        if not isinstance(root, dict):
            self._file("the document must be a mapping of collections")
            return None
        return root

    def _file(self, message: str, failure: FileFailure = "schema_failed") -> None:
        self.problems.append(FileProblem(message, failure=failure))

    def _named(self, entries: Iterator[_Entry], found: dict[tuple[str, int], list[FileProblem]]) -> Iterator[_Entry]:
        """The entries that have a name of their own, with their variables put in."""
        first: dict[tuple[str, str], int] = {}
        for entry in entries:
            problem = self._name(entry, first)
            if problem is None:
                yield entry
            else:
                found[entry.kind.name, entry.index] = [problem]

    def _name(self, entry: _Entry, first: dict[tuple[str, str], int]) -> FileProblem | None:
        if not isinstance(entry.document, dict):
            return entry.problem("must be a mapping")
        try:
            entry.document = interpolated(entry.document, self.environ)
        except BadText as error:
            said = identity_of(entry.kind.name, entry.document)
            if isinstance(said, str) and "$" not in said:
                self.names.setdefault(entry.kind.name, set()).add(said)
            return entry.problem(field_message(error.at, error.reason))
        identity = identity_of(entry.kind.name, entry.document)
        if not isinstance(identity, str) or not identity:
            fields = " or ".join(f"`{each}`" for each in identity_fields(entry.kind.name))
            return entry.problem(f"{fields} must be given, as text that is not empty: it names the entry")
        entry.identity = identity
        self.names.setdefault(entry.kind.name, set()).add(identity)
        before = first.setdefault((entry.kind.name, identity), entry.index)
        if before != entry.index:
            return entry.problem(f"{entry.kind.name}[{before}] has this name already")
        if "id" in entry.document:
            return entry.problem(field_message(("id",), "must not be given: ids are made of the names"))
        return None

    def _checked(self, entry: _Entry, names: Names, found: dict[tuple[str, int], list[FileProblem]]) -> Row | None:
        assert entry.identity is not None
        kind = entry.kind
        try:
            value = check(kind, desugared(kind.name, entry.document, names))
        except BadText as error:
            message = field_message(error.at, error.reason)
            problem = entry.problem(message, dangling=isinstance(error, Dangling))
        except Refused as error:
            flaw = _first(error)
            failure: FileFailure = "parse_failed" if flaw.step == "parse" else "schema_failed"
            problem = entry.problem(flaw.text(kind.type_name), failure)
        else:
            return Row(kind, entry.index, entry.identity, row_id(kind.name, entry.identity), value)
        found[kind.name, entry.index] = [problem]
        return None


def _first(error: Refused) -> Flaw:
    return next((flaw for flaw in error.flaws if flaw.step == "schema"), error.flaws[0])
