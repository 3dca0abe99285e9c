"""The one transaction that does what is planned, with its history and audit rows. Pure, but for the nonces of what is
sealed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec

from aisix_common.clock import rfc3339
from aisix_common.resources import Loaded, masked, read
from aisix_common.store.types import Compare, Compared, Comparison, Delete, KeyValue, Operation, Put, unchanged

from .audit import Actor, Changed, entry
from .changes import changed_paths
from .errors import TooLarge
from .facts import Facts
from .history import Version, appended, with_found
from .index import Place
from .planning import Edit, Planner, View
from .rows import Roots
from .sealing import Sealing

VALUE_LIMIT: Final = 1024 * 1024
"""Bytes of one stored document, and of all that one transaction writes for several: etcd takes 1.5 MiB."""

_MOST_COMPARES: Final = 120
"""etcd takes 128."""


@dataclass(frozen=True, slots=True)
class Shared:
    """The rows that writes share, as they were read; None: there is none yet."""

    turn: KeyValue | None = None
    """Of the resource root."""
    turn_ext: KeyValue | None = None
    """Of the ext root."""
    canary: KeyValue | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What a write is done with, besides its edits."""

    actor: Actor
    moment: datetime
    segment: str
    """Of the audit row's key; of this attempt alone."""
    versions: int
    """How many versions of a resource are kept."""
    purge: bool = False
    forced: bool = False

    def audit(self, changes: Sequence[Changed]) -> bytes:
        """The audit row."""
        return msgspec.json.encode(entry(self.moment, self.actor, changes, forced=self.forced))


@dataclass(slots=True)
class Plan:
    """One transaction, and what follows from it."""

    compare: list[Compare] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    undo: list[Operation] = field(default_factory=list)
    """Restores what was there before, for a write that has to be withdrawn."""
    facts: dict[Place, Facts | None] = field(default_factory=dict)
    """For the index; None: the row is gone."""
    claims: dict[tuple[str, str], str] = field(default_factory=dict)
    """(kind, name) -> id, of names that are new to their row."""
    told: tuple[Changed, ...] = ()
    """What the audit says of each edit, in their order."""
    structural: bool = False
    sealed: bool = False
    """Whether a secret was sealed just now."""
    overhead: int = 0
    """Bytes of history and audit."""


class Transactions:
    """Makes them."""

    def __init__(self, roots: Roots, sealing: Sealing) -> None:
        self._roots = roots
        self._sealing = sealing

    def plan(self, planner: Planner, shared: Shared, exist: Sequence[str], wish: Wish) -> Plan:
        """The transaction of what is planned. `exist` are the keys of rows that must still exist.

        Raises TooLarge, NoKeyring for secrets that nothing can seal, WrongKeyring.
        """
        roots, made = self._roots, Plan(structural=planner.structural)
        made.told = tuple(self._changed(planner, edit) for edit in planner.edits)
        for edit, told in zip(planner.edits, made.told, strict=True):
            self._put(made, planner, edit)
            self._put_history(made, planner, edit, told, wish)
        audit_key = roots.audit(wish.segment)
        made.operations.append(Put(audit_key, wish.audit(made.told)))
        made.undo.append(Delete(audit_key))
        made.compare.append(unchanged(audit_key, 0))
        if made.structural:
            self._take_turns(made, planner, shared, wish)
        if made.sealed:
            self._guard_keyring(made, shared.canary)
        # What there is no room for is only not guarded against others that delete it now: ours wait for the turn.
        room = _MOST_COMPARES - len(made.compare)
        made.compare += [Compare(key, Compared.VERSION, Comparison.GREATER, 0) for key in sorted(set(exist))[:room]]
        made.overhead = sum(
            len(each.value)
            for each in made.operations
            if isinstance(each, Put) and each.key.startswith(roots.run + "/")
        )
        made.claims = {(edit.kind.name, name): edit.id for edit, name in planner.claims()}
        _measure(made, len(planner.edits))
        return made

    def _take_turns(self, made: Plan, planner: Planner, shared: Shared, wish: Wish) -> None:
        """Nobody else's structural write may have come between; that this one did is told under the roots it is of."""
        of = {edit.kind.external for edit in planner.edits if planner.is_structural(edit)}
        for external, turn in ((False, shared.turn), (True, shared.turn_ext)):
            key = self._roots.turn(external=external)
            made.compare.append(unchanged(key, turn.mod_revision if turn else 0))
            if external in of:
                made.operations.append(Put(key, wish.segment.encode()))

    def _guard_keyring(self, made: Plan, canary: KeyValue | None) -> None:
        """What is sealed is sealed under the keyring of everybody else: the canary row tells. It is never taken back,
        as others may rely on it by then."""
        first = self._sealing.canary(canary.value if canary else None)
        made.compare.append(unchanged(self._roots.canary, canary.mod_revision if canary else 0))
        if first is not None:
            made.operations.append(Put(self._roots.canary, first))

    def _put(self, made: Plan, planner: Planner, edit: Edit) -> None:
        key, row = self._roots.resource(*edit.place), planner.view.rows[edit.place]
        made.compare.append(unchanged(key, row.mod_revision if row else 0))
        if edit.stored is not None:
            stored = self._sealing.sealed(edit.kind, edit.id, edit.stored, edit.value)
            made.sealed = made.sealed or stored.sealed
            value = msgspec.json.encode(stored.document)
            if len(value) > VALUE_LIMIT:
                raise TooLarge(f"the document is over {VALUE_LIMIT} bytes when stored: etcd would not take it")
            made.operations.append(Put(key, value))
        elif row is not None:
            made.operations.append(Delete(key))
        made.undo.append(Put(key, row.value) if row else Delete(key))
        made.facts[edit.place] = None if edit.value is None else planner.after[edit.place]

    def _put_history(self, made: Plan, planner: Planner, edit: Edit, told: Changed, wish: Wish) -> None:
        key, past = self._roots.history(*edit.place), planner.view.histories[edit.place]
        made.compare.append(unchanged(key, past.mod_revision if past else 0))
        if wish.purge:
            made.operations.append(Delete(key))
        else:
            made.operations.append(Put(key, _appended(planner.view, edit, told, wish)))
        made.undo.append(Put(key, past.value) if past else Delete(key))

    def _changed(self, planner: Planner, edit: Edit) -> Changed:
        before, row = None, planner.view.rows[edit.place]
        if row is not None:
            loaded = read(edit.kind, row.value)
            before = self._comparable(edit, loaded.value) if isinstance(loaded, Loaded) else None
        after = None if edit.value is None else self._comparable(edit, edit.value)
        facts = planner.after[edit.place] if edit.value is not None else planner.before[edit.place]
        changed = changed_paths(before, after) if after is not None else ()
        return Changed(edit.kind.name, edit.id, edit.action, (facts.called if facts else None) or None, changed)

    def _comparable(self, edit: Edit, value: Any) -> dict[str, Any]:
        """The document with its secrets in clear as far as they can be opened, to find out what changes: the same
        secret sealed anew is no change. A secret object is one text, so that no path leads into it."""
        plain = self._sealing.clear(edit.kind, edit.id, value)
        comparable: dict[str, Any] = _closed(plain, masked(edit.kind, value))
        return comparable


def _appended(view: View, edit: Edit, told: Changed, wish: Wish) -> bytes:
    history, row = view.history(*edit.place), view.rows[edit.place]
    if row is not None:
        loaded = read(edit.kind, row.value)
        shown = masked(edit.kind, loaded.value) if isinstance(loaded, Loaded) else None
        history = with_found(history, shown, row.mod_revision)
    value = None if edit.value is None else masked(edit.kind, edit.value)
    version = Version(0, rfc3339(wish.moment), wish.actor.who, edit.action, told.changed, value)
    return appended(history, version, wish.versions)


def _closed(clear: Any, shown: Any) -> Any:
    if not isinstance(clear, dict):
        return clear
    if not isinstance(shown, dict):
        return msgspec.json.encode(clear, order="deterministic")
    return {name: _closed(item, shown[name]) for name, item in clear.items()}


def _measure(made: Plan, edits: int) -> None:
    if edits == 1:
        return
    size = sum(len(each.value) for each in made.operations if isinstance(each, Put))
    if size > VALUE_LIMIT:
        raise TooLarge(f"this set needs {size} bytes of etcd, history and audit included; {VALUE_LIMIT} are possible")
