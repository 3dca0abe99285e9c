"""Rows for snapshot tests: good ones, bad ones, and a listing of them."""

from datetime import UTC, datetime, timedelta

from msgspec import json

from aisix_common.store.types import Changes, Deleted, KeyValue, Listing

PREFIX = "/aisix"
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(minutes=1)
MUCH_LATER = NOON + timedelta(hours=1)
BAD = b'{"key_hash":""}'


def api_key(row_id: str, name: str, revision: int, created: int | None = None, **more: object) -> KeyValue:
    """A sound api key whose name (hash) is `name`."""
    value = json.encode({"key_hash": name, "allowed_models": ["gpt-4o"], **more})
    return KeyValue(f"{PREFIX}/api_keys/{row_id}", value, created or revision, revision)


def row(path: str, value: bytes, revision: int, created: int | None = None) -> KeyValue:
    """Any row; `path` is what follows the prefix."""
    return KeyValue(f"{PREFIX}/{path}", value, created or revision, revision)


def gone(path: str, revision: int) -> Deleted:
    """A deletion."""
    return Deleted(f"{PREFIX}/{path}", revision)


def listing(*rows: KeyValue, revision: int = 0) -> Listing:
    """All rows, at the highest of their revisions unless told."""
    return Listing(rows, revision or max((each.mod_revision for each in rows), default=1))


def changes(*events: KeyValue | Deleted) -> Changes:
    """Events of one batch."""
    return Changes(events, events[-1].mod_revision)
