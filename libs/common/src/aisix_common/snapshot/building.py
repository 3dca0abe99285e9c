"""Listings and changes in, snapshots out. Pure: time comes in as an argument, nothing is read or written."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from aisix_common.resources import KINDS, Kind
from aisix_common.secrets.envelope import NO_KEYRING, Keyring
from aisix_common.store.types import Changes, KeyValue, Listing

from .draft import Draft
from .sharded import Editor
from .tables import RejectedRow, Snapshot, empty


@dataclass(frozen=True, slots=True)
class Pin:
    """A last good value that outlives a restart: the row as it was served, and since when in place of a bad one."""

    row: KeyValue
    since: datetime


def build(listing: Listing, previous: Snapshot, now: datetime, keyring: Keyring = NO_KEYRING) -> Snapshot:
    """Everything of `listing`, in place of what `previous` held, with secrets that `keyring` opens in clear.

    A row that is bad now and was good in `previous` keeps its last good value, unless it was deleted in between (its
    create_revision tells). Rows that did not change are taken over without reading them again.
    """
    draft = Draft.anew(previous, now, keyring)
    for row in listing.rows:
        draft.put(row)
    return draft.finish(listing.revision)


def apply(snapshot: Snapshot, changes: Changes, now: datetime, keyring: Keyring = NO_KEYRING) -> Snapshot:
    """`snapshot` after `changes`, in their order. `snapshot` itself stays as it is."""
    draft = Draft.following(snapshot, now, keyring)
    for event in changes.events:
        if isinstance(event, KeyValue):
            draft.put(event)
        else:
            draft.delete(event.key)
    return draft.finish(changes.revision)


def reopened(snapshot: Snapshot, now: datetime, keyring: Keyring) -> Snapshot:
    """`snapshot` under another keyring: the same rows, each sealed one tried anew.

    What could not be opened and can be now gets in. What is served and does not open any more is served on as a last
    good value, and rejected: whoever looks sees it before a restart makes it an outage.
    """
    draft = Draft.following(snapshot, now, keyring)
    draft.reopen()
    return draft.finish(snapshot.revision)


def restore(
    listing: Listing,
    pins: Sequence[Pin],
    prefix: str,
    now: datetime,
    keyring: Keyring = NO_KEYRING,
    kinds: Iterable[Kind[Any]] = KINDS,
) -> Snapshot:
    """The snapshot that a cache holds: rows as last seen in etcd, and the last good values served for bad ones.

    A pin that this build cannot read is dropped.
    """
    good = build(Listing(tuple(pin.row for pin in pins), listing.revision), empty(prefix, kinds), now, keyring)
    since = Editor[RejectedRow]()
    for pin in pins:
        since.put(pin.row.key, _rejected_since(pin.since))
    restored = build(listing, replace(good, rejected=since.done(), apply_seq=0), now, keyring)
    return replace(restored, touched=None)  # nobody has seen what it was compared with: the last good values alone


def _rejected_since(moment: datetime) -> RejectedRow:
    """Only says since when a row is stale: the real rejection, read from the row itself, takes that over."""
    return RejectedRow("", "", "schema_failed", "", moment, moment, moment, 0, 0, b"")
