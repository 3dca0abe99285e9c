"""Listings and changes in, snapshots out. Pure: time comes in as an argument, nothing is read or written."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from aisix_common.store.types import Changes, KeyValue, Listing

from .draft import Draft
from .sharded import Editor
from .tables import RejectedRow, Snapshot, empty


@dataclass(frozen=True, slots=True)
class Pin:
    """A last good value that outlives a restart: the row as it was served, and since when in place of a bad one."""

    row: KeyValue
    since: datetime


def build(listing: Listing, previous: Snapshot, now: datetime) -> Snapshot:
    """Everything of `listing`, in place of what `previous` held.

    A row that is bad now and was good in `previous` keeps its last good value, unless it was deleted in between (its
    create_revision tells). Rows that did not change are taken over without reading them again.
    """
    draft = Draft.anew(previous, now)
    for row in listing.rows:
        draft.put(row)
    return draft.finish(listing.revision)


def apply(snapshot: Snapshot, changes: Changes, now: datetime) -> Snapshot:
    """`snapshot` after `changes`, in their order. `snapshot` itself stays as it is."""
    draft = Draft.following(snapshot, now)
    for event in changes.events:
        if isinstance(event, KeyValue):
            draft.put(event)
        else:
            draft.delete(event.key)
    return draft.finish(changes.revision)


def restore(listing: Listing, pins: Sequence[Pin], prefix: str, now: datetime) -> Snapshot:
    """The snapshot that a cache holds: rows as last seen in etcd, and the last good values served for bad ones.

    A pin that this build cannot read is dropped.
    """
    good = build(Listing(tuple(pin.row for pin in pins), listing.revision), empty(prefix), now)
    since = Editor[RejectedRow]()
    for pin in pins:
        since.put(pin.row.key, _rejected_since(pin.since))
    return build(listing, replace(good, rejected=since.done(), apply_seq=0), now)


def _rejected_since(moment: datetime) -> RejectedRow:
    """Only says since when a row is stale: the real rejection, read from the row itself, takes that over."""
    return RejectedRow("", "", "schema_failed", "", moment, moment, moment, 0, 0, b"")
