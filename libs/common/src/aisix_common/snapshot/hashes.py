"""The two fingerprints of `/status/config` (control-plane 2.7).

They read every row: compute them on demand, off the loop.
"""

import hashlib
from collections.abc import Iterable

import msgspec

from .tables import Snapshot


def source_hash(snapshot: Snapshot) -> str:
    """SHA-256 (hex) over every row as it stands in the source, rejected ones included."""
    return _digest(_observed(snapshot))


def config_hash(snapshot: Snapshot) -> str:
    """SHA-256 (hex) over the rows as they are served, last good values included."""
    return _digest(_served(snapshot))


def canonical(raw: bytes) -> bytes:
    """JSON with keys sorted by code point at every depth and no white space; other bytes as they are."""
    try:
        return msgspec.json.encode(msgspec.json.decode(raw), order="deterministic")
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError):
        return raw


def differs(old: bytes, new: bytes) -> bool:
    """Whether two rows differ in content, not in spelling alone."""
    return old != new and canonical(old) != canonical(new)


def _served(snapshot: Snapshot) -> Iterable[tuple[str, bytes]]:
    for kind, table in snapshot.tables.items():
        for entry in table.by_id.values():
            yield f"{snapshot.prefix}/{kind}/{entry.id}", entry.raw


def _observed(snapshot: Snapshot) -> Iterable[tuple[str, bytes]]:
    yield from ((key, raw) for key, raw in _served(snapshot) if key not in snapshot.rejected)
    yield from ((key, row.raw) for key, row in snapshot.rejected.items())


def _digest(rows: Iterable[tuple[str, bytes]]) -> str:
    digest = hashlib.sha256()
    for key, raw in sorted((key.encode("utf-8", "surrogateescape"), raw) for key, raw in rows):
        digest.update(key + b"\x00" + canonical(raw) + b"\n")
    return digest.hexdigest()
