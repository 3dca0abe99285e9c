"""What an exchange needs of the configuration, compiled when it changes and not per request (design 4.4).

`compile_snapshot` is nearly free, so one change among 50,000 keys holds the loop for microseconds: records of single
rows are built when first asked for, and handed from one compiled snapshot to the next for as long as their rows stay
the same objects. An exchange keeps the Compiled it began with; a row that changes gets a new record beside the old.

Knows resources, adapters and metric cells; no request, no socket.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from aisix_common.resources import PROVIDER_KEYS, ApiKey, Model, ProviderKey
from aisix_common.resources.api_keys import PreviousKey
from aisix_common.snapshot import Entry, Snapshot
from aisix_common.snapshot.sharded import Editor, Sharded

from .compiled_model import CompiledModel, Defaults, Problem, captured, compile_model

_REMEMBERED_KEYS: Final = 20_000
_REMEMBERED_CREDENTIALS: Final = 10_000
_REMEMBERED_NAMES: Final = 1024
_CELLS_PER_KEY: Final = 256
_LONGEST_NAME: Final = 256
"""Bytes of a name a wildcard may stand for, and of one that is remembered: callers make names up."""


class CompiledKey:
    """One caller key. Compared by identity, as CompiledModel is."""

    __slots__ = ("_cells", "_exact", "_patterns", "disabled", "entry", "expires_at")

    def __init__(self, entry: Entry[ApiKey]) -> None:
        row = entry.value
        self.entry = entry
        self.disabled = row.disabled
        self.expires_at = row.expires_at
        self._exact = frozenset(row.allowed_models)
        self._patterns = tuple(
            (before, after)
            for pattern in row.allowed_models
            if pattern.count("*") == 1
            for before, _, after in [pattern.partition("*")]
        )
        self._cells: dict[Any, Any] = {}

    @property
    def id(self) -> str:
        return self.entry.id

    def allows(self, name: str) -> bool:
        """Whether the key may use a model by the name its caller typed (data-plane 2.2)."""
        if name in self._exact:
            return True
        for before, after in self._patterns:  # noqa: SIM110 - asked at every request; a generator costs more than it does
            if _matches(name, before, after):
                return True
        return False

    def variable(self, field: str) -> str | None:
        """`request.api_key.<field>` of header templates (data-plane 4.0)."""
        row = self.entry.value
        return {
            "id": self.entry.id,
            "name": row.display_name,
            "team_id": row.team_id,
            "user_id": row.user_id,
        }.get(field)

    def remembered(self, what: Any) -> Any:
        """What `remember` was given under `what`, else None."""
        return self._cells.get(what)

    def remember(self, what: Any, value: Any) -> None:
        """Keep a value with this record, for as long as the row lives; bounded."""
        if len(self._cells) >= _CELLS_PER_KEY:
            self._cells.clear()
        self._cells[what] = value


def _matches(name: str, before: str, after: str) -> bool:
    return len(name) >= len(before) + len(after) and name.startswith(before) and name.endswith(after)


class Compiled:
    """One snapshot, with records of the rows that were asked for."""

    __slots__ = ("_credentials", "_defaults", "_former", "_keys", "_models", "_named", "_wildcards", "snapshot")

    def __init__(self, snapshot: Snapshot, defaults: Defaults, previous: "Compiled | None" = None) -> None:
        self.snapshot = snapshot
        self._defaults = defaults
        self._keys: dict[str, CompiledKey] = {}
        self._models: dict[str, CompiledModel] = {}
        self._wildcards: tuple[tuple[str, str, Entry[Model]], ...]
        models = snapshot.table(Model)
        if previous is not None and previous._defaults == defaults:
            self._keys, self._models = previous._keys, previous._models
            same_models = previous.snapshot.table(Model) is models
            self._wildcards = previous._wildcards if same_models else _wildcards(snapshot)
            if len(self._models) > 2 * len(models.by_id) + 64:
                self._models = {id: record for id, record in self._models.items() if id in models.by_id}
        else:
            self._wildcards = _wildcards(snapshot)
        self._former = _former_keys(snapshot, previous)
        """Hash of a key that was rotated away -> ids of the rows that still name it, most often one."""
        self._credentials: dict[str, CompiledKey] = {}
        self._named: dict[str, CompiledModel] = {}

    def remembered_credential(self, header: str) -> CompiledKey | None:
        """The key that `remember_credential` was given for this very header value."""
        return self._credentials.get(header)

    def remember_credential(self, header: str, key: CompiledKey) -> None:
        """Spare the next request with this header value the hash. Bounded, and gone with any change."""
        if len(self._credentials) >= _REMEMBERED_CREDENTIALS:
            self._credentials.clear()
        self._credentials[header] = key

    def key(self, key_hash: str) -> CompiledKey | None:
        """The caller key of a hash (lower-case hex)."""
        entry = self.snapshot.table(ApiKey).by_name.get(key_hash)
        return None if entry is None else self._key(entry)

    def former_key(self, key_hash: str, now: datetime) -> CompiledKey | None:
        """The caller key that had this hash before it was rotated, while it still holds (inclusive).

        To be asked after `key`, and not to be remembered: it runs out without any change. Should several rows name the
        hash, it is the one created first, as with `key`.
        """
        ids = self._former.get(key_hash)
        if ids is None:
            return None
        table = self.snapshot.table(ApiKey).by_id
        holders = [
            entry
            for id in ids
            if (entry := table.get(id)) is not None
            and any(each.hash == key_hash and now <= each.until for each in _former(entry))
        ]
        return self._key(min(holders, key=lambda entry: (entry.create_revision, entry.id))) if holders else None

    def _key(self, entry: Entry[ApiKey]) -> CompiledKey:
        record = self._keys.get(entry.id)
        if record is None or record.entry is not entry:
            if len(self._keys) >= _REMEMBERED_KEYS:
                self._keys.clear()
            record = self._keys[entry.id] = CompiledKey(entry)
        return record

    def model(self, name: str) -> CompiledModel | None:
        """The row a caller means: its exact name first, else the wildcard row with the longest pattern (6.1)."""
        return self._named.get(name) or self._find(name)

    def names(self) -> Iterator[CompiledModel]:
        """Every row a caller can name as it is, in the order of their names (no wildcards)."""
        table = self.snapshot.table(Model).by_name
        return (self._record(table[name]) for name in sorted(table) if "*" not in name)

    @property
    def known_names(self) -> Mapping[str, object]:
        """Every display name there is; for `in`."""
        return self.snapshot.table(Model).by_name

    def rows(self) -> Iterator[CompiledModel]:
        """Every model row, in the order of their names."""
        table = self.snapshot.table(Model).by_name
        return (self._record(table[name]) for name in sorted(table))

    def problems(self) -> Iterator[tuple[CompiledModel, Problem]]:
        """The rows that are loaded and cannot be served, with why."""
        return ((record, record.problem) for record in self.rows() if record.problem is not None)

    def _record(self, entry: Entry[Model]) -> CompiledModel:
        key_id = entry.value.provider_key_id
        key_entry = self.snapshot.table(ProviderKey).by_id.get(key_id) if isinstance(key_id, str) else None
        out = key_entry is None and f"{self.snapshot.prefix}/{PROVIDER_KEYS.name}/{key_id}" in self.snapshot.rejected
        record = self._models.get(entry.id)
        if (
            record is None
            or record.entry is not entry
            or record.key_entry is not key_entry
            or record.key_is_out is not out
        ):
            record = self._models[entry.id] = compile_model(entry, key_entry, self._defaults, key_is_out=out)
        return record

    def _find(self, name: str) -> CompiledModel | None:
        """Look a name up, and remember what it means: bounded, for with wildcards callers may make up names."""
        entry = self.snapshot.table(Model).by_name.get(name)
        exact = self._record(entry) if entry is not None and "*" not in name else None
        if _too_long(name):
            return exact
        record = exact or self._capture(name)
        if record is not None:
            if len(self._named) >= _REMEMBERED_NAMES:
                self._named.clear()
            self._named[name] = record
        return record

    def _capture(self, name: str) -> CompiledModel | None:
        for before, after, entry in self._wildcards:
            if _matches(name, before, after):
                return captured(self._record(entry), name[len(before) : len(name) - len(after)])
        return None


def _former(entry: Entry[ApiKey] | None) -> tuple[PreviousKey, ...]:
    """The keys a row had before, most often none."""
    return () if entry is None else entry.value.previous_keys


def _former_keys(snapshot: Snapshot, previous: Compiled | None) -> Sharded[tuple[str, ...]]:
    """Who names which former hash. A change costs what it touches, so rotated keys do not slow the others' changes."""
    table = snapshot.table(ApiKey).by_id
    if previous is not None and previous.snapshot.table(ApiKey).by_id is table:
        return previous._former
    ids = None if previous is None or snapshot.touched is None else snapshot.touched.get("api_keys", frozenset())
    if previous is None or ids is None or 2 * len(ids) > len(table):
        return _all_former_keys(table)
    before, editor = previous.snapshot.table(ApiKey).by_id, Editor(previous._former)
    for id in ids:
        for former in _former(before.get(id)):
            rest = tuple(other for other in editor.get(former.hash) or () if other != id)
            if rest:
                editor.put(former.hash, rest)
            else:
                editor.drop(former.hash)
        for former in _former(table.get(id)):
            editor.put(former.hash, (*(editor.get(former.hash) or ()), id))
    return editor.done()


def _all_former_keys(table: Sharded[Entry[ApiKey]]) -> Sharded[tuple[str, ...]]:
    editor: Editor[tuple[str, ...]] = Editor()
    for entry in table.values():
        for former in entry.value.previous_keys:
            editor.put(former.hash, (*(editor.get(former.hash) or ()), entry.id))
    return editor.done()


def _too_long(name: str) -> bool:
    return len(name) > _LONGEST_NAME or len(name.encode(errors="surrogatepass")) > _LONGEST_NAME


def _wildcards(snapshot: Snapshot) -> tuple[tuple[str, str, Entry[Model]], ...]:
    """Direct rows whose name holds one star, longest pattern first, equal lengths by name."""
    found = [
        (name, entry)
        for name, entry in snapshot.table(Model).by_name.items()
        if "*" in name and name.count("*") == 1 and entry.value.shape == "direct"
    ]
    found.sort(key=lambda item: (-len(item[0]), item[0]))
    return tuple((*name.split("*"), entry) for name, entry in found)  # type: ignore[misc]


class Live:
    """Holds the compiled snapshot in force. One assignment swaps it; exchanges under way keep what they began with."""

    __slots__ = ("compiled", "defaults")

    def __init__(self, snapshot: Snapshot, defaults: Defaults) -> None:
        self.defaults = defaults
        self.compiled = Compiled(snapshot, defaults)

    def apply(self, snapshot: Snapshot) -> None:
        """Serve `snapshot` from the next request on."""
        self.compiled = Compiled(snapshot, self.defaults, self.compiled)
