"""The audit: one row of etcd for each write that happened, in the transaction of that write. Pure.

Field names, never values. Keys sort newest first, because etcd reads a range in ascending order cheaply and in
descending order only as a whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from aisix_common.clock import rfc3339

_LAST: Final = 10**13 - 1
"""Milliseconds since 1970 are counted down from here, so that 13 digits always do."""


class Changed(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one resource."""

    kind: str
    id: str
    action: str
    label: str | None = None
    changed: tuple[str, ...] = ()
    """JSON pointers of the fields that differ."""


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """The row."""

    at: str
    """RFC 3339."""
    who: str
    """Name of the admin key."""
    address: str
    """Where the request came from."""
    request_id: str
    changes: tuple[Changed, ...]
    forced: bool = False


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks for a write."""

    who: str
    address: str
    request_id: str


def key_of(moment: datetime, token: str) -> str:
    """The last segment of a row's key. `token` tells apart what happens in one millisecond."""
    return f"{_counted(moment)}-{token}"


def older_than(moment: datetime) -> str:
    """The segment from which on every key is older than `moment`."""
    return f"{_counted(moment)}."  # "." sorts right after "-"


def _counted(moment: datetime) -> str:
    """13 digits for every moment: people ask for what happened since the year 1."""
    return f"{_LAST - min(max(int(moment.timestamp() * 1000), 0), _LAST):013d}"


def entry(moment: datetime, actor: Actor, changes: Sequence[Changed], *, forced: bool = False) -> Entry:
    """The row of one write."""
    return Entry(rfc3339(moment), actor.who, actor.address, actor.request_id, tuple(changes), forced)


@dataclass(frozen=True, slots=True)
class Filter:
    """What is looked for; None: anything. Times are both included."""

    kind: str | None = None
    id: str | None = None
    who: str | None = None
    action: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def takes(self, one: Entry) -> bool:
        """Whether the row is meant; times are the reader's to bound by keys."""
        if self.who is not None and one.who != self.who:
            return False
        return any(
            (self.kind is None or change.kind == self.kind)
            and (self.id is None or change.id == self.id)
            and (self.action is None or change.action == self.action)
            for change in one.changes
        )


def read_entry(raw: bytes) -> Entry | None:
    """The row's content, or None where it cannot be read: one bad row must not hide the others."""
    try:
        return msgspec.json.decode(raw, type=Entry)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def shown(segment: str, revision: int, one: Entry) -> dict[str, Any]:
    """A row as it is answered."""
    return {
        "id": segment,
        "revision": revision,
        "at": one.at,
        "who": one.who,
        "from": one.address,
        "request_id": one.request_id,
        **({"forced": True} if one.forced else {}),
        "changes": [
            {
                "kind": change.kind,
                "id": change.id,
                "action": change.action,
                **({"label": change.label} if change.label else {}),
                "changed": list(change.changed),
            }
            for change in one.changes
        ],
    }
