"""The cache's format: what is written reads back, and any damage loses the tail or says why."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisix_common.snapshot import Snapshot, apply, build, empty, restore
from aisix_common.sources.cache_log import (
    MAGIC,
    ROWS_IN_BATCH,
    Batch,
    Cached,
    CacheUnusable,
    base,
    changed_rows,
    decode,
    header,
    record,
)
from aisix_common.sources.sealing import PLAIN

from tests.common.snapshot.rows import BAD, LATER, NOON, PREFIX, api_key, changes, gone, listing, row


def whole(snapshot: Snapshot) -> bytes:
    return b"".join(base(snapshot, PREFIX, PLAIN))


def followed(data: bytes, snapshot: Snapshot, number: int, *keys: str) -> bytes:
    batch = Batch("changes", snapshot.revision, changed_rows(snapshot, keys))
    return data + record(batch, number, header(PREFIX, PLAIN), PLAIN)


def restored(cached: Cached) -> Snapshot:
    return restore(cached.listing, cached.pins, PREFIX, LATER)


def told(snapshot: Snapshot) -> Any:
    rejected = {key: (bad.failure, bad.stale_since) for key, bad in snapshot.rejected.items()}
    return (snapshot.revision, {name: dict(table.by_id) for name, table in snapshot.tables.items()}, rejected)


GOOD = build(
    listing(
        api_key("a", "h1", 1), api_key("b", "h2", 2), row("guardrails/g", b"\x00\xff", 3), row("models/bad", b"{", 4)
    ),
    empty(PREFIX),
    NOON,
)
STALE = apply(GOOD, changes(row("api_keys/a", BAD, 5, created=1)), NOON)
LESS = apply(STALE, changes(gone("api_keys/b", 6)), NOON)


@pytest.mark.parametrize("snapshot", [empty(PREFIX), GOOD, STALE, LESS])
def test_a_base_reads_back(snapshot: Snapshot) -> None:
    cached = decode(whole(snapshot), PREFIX, PLAIN)
    assert not cached.torn
    again = restored(cached)
    rejected = {key: bad.stale_since for key, bad in snapshot.rejected.items()}
    assert {key: bad.stale_since for key, bad in again.rejected.items()} == rejected
    assert told(again) == told(snapshot)


@pytest.mark.parametrize("count", [ROWS_IN_BATCH - 1, ROWS_IN_BATCH, ROWS_IN_BATCH + 1, 2 * ROWS_IN_BATCH])
def test_a_base_of_many_batches(count: int) -> None:
    rows = [api_key(f"{n}", f"h{n}", n + 1) for n in range(count)]
    snapshot = build(listing(*rows), empty(PREFIX), NOON)
    data = whole(snapshot)
    assert len(decode(data, PREFIX, PLAIN).listing.rows) == count
    with pytest.raises(CacheUnusable):
        decode(data[:-1], PREFIX, PLAIN)


def test_changes_follow_the_base() -> None:
    data = followed(whole(GOOD), STALE, 1, f"{PREFIX}/api_keys/a")
    assert told(restored(decode(data, PREFIX, PLAIN))) == told(STALE)
    data = followed(data, LESS, 2, f"{PREFIX}/api_keys/b", f"{PREFIX}/api_keys/never")
    assert told(restored(decode(data, PREFIX, PLAIN))) == told(LESS)


def test_a_torn_tail_loses_only_the_tail() -> None:
    one = whole(GOOD)
    two = followed(one, STALE, 1, f"{PREFIX}/api_keys/a")
    three = followed(two, LESS, 2, f"{PREFIX}/api_keys/b")
    for length in range(len(one), len(three)):
        cached = decode(three[:length], PREFIX, PLAIN)
        assert told(restored(cached)) == told(STALE if length >= len(two) else GOOD)
        assert cached.torn == (length not in (len(one), len(two)))


@given(st.integers(0, 2**31), st.integers(1, 255))
def test_any_flipped_byte_is_noticed(place: int, flip: int) -> None:
    one = whole(GOOD)
    data = bytearray(followed(one, STALE, 1, f"{PREFIX}/api_keys/a"))
    place %= len(data)
    data[place] ^= flip
    try:
        cached = decode(bytes(data), PREFIX, PLAIN)
    except CacheUnusable:
        assert place < len(one)
    else:
        assert cached.torn
        assert told(restored(cached)) == told(GOOD)


@given(st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for start in (b"", MAGIC, header(PREFIX, PLAIN), whole(GOOD)):
        try:
            decode(start + data, PREFIX, PLAIN)
        except CacheUnusable:
            pass


def test_records_cannot_be_reordered_under_a_sealer_that_binds_them() -> None:
    class Bound:
        name = "bound"

        def seal(self, clear: bytes, context: bytes) -> bytes:
            return context + b"|" + clear

        def unseal(self, sealed: bytes, context: bytes) -> bytes:
            if not sealed.startswith(context + b"|"):
                raise ValueError("sealed for another place")
            return sealed[len(context) + 1 :]

    data = b"".join(base(GOOD, PREFIX, Bound()))
    moved = Batch("changes", 9, [])
    head = header(PREFIX, Bound())
    assert decode(data + record(moved, 1, head, Bound()), PREFIX, Bound()).listing.revision == 9
    assert decode(data + record(moved, 2, head, Bound()), PREFIX, Bound()).torn
    with pytest.raises(CacheUnusable, match="sealed in another way"):
        decode(data, PREFIX, PLAIN)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no snapshot cache"),
        (b'{"version":1,"revision":5,"entries":[]}', "no snapshot cache"),
        (MAGIC + b'{"version":2,"prefix":"/aisix","sealer":"plain"}\n', "version 2"),
        (MAGIC + b'{"version":1,"prefix":"/aisix/env","sealer":"plain"}\n', "another etcd prefix"),
        (MAGIC + b"nonsense\n", "header"),
        (MAGIC, "header"),
        (header(PREFIX, PLAIN), "before its first complete state"),
    ],
)
def test_what_cannot_be_used_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(CacheUnusable, match=reason):
        decode(data, PREFIX, PLAIN)
