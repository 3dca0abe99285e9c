"""What an instance tells of rows that it does not serve as they were written."""

from datetime import timedelta
from typing import Any

import msgspec

from aisix_common.resources import EXTERNAL_KINDS
from aisix_common.snapshot import Snapshot, apply, build, empty
from aisix_common.store.types import Changes, Deleted, KeyValue, Listing
from aisix_proxy.telemetry.shortcomings import RejectedResource, Shortcomings, UnknownField

from tests.support.builders import NOON

UNIX = int(NOON.timestamp())


def row(key: str, document: Any, revision: int = 1, created: int = 1) -> KeyValue:
    raw = document if isinstance(document, bytes) else msgspec.json.encode(document)
    return KeyValue(key, raw, created, revision)


def provider_key(id: str, revision: int = 1, **more: Any) -> KeyValue:
    return row(f"/aisix/provider_keys/{id}", {"display_name": id, "secret": "sk-1", **more}, revision)


def snapshot(*rows: KeyValue, revision: int = 10) -> Snapshot:
    return build(Listing(rows, revision), empty("/aisix"), NOON)


def test_each_rejected_row_says_what_the_cloud_is_told() -> None:
    good = snapshot(provider_key("a"))
    later = NOON + timedelta(seconds=90)
    events = [
        row("/aisix/provider_keys/a", b"{", 11),
        row("/aisix/nothing", b"{}", 12, 12),
        row("/aisix/models/m", {"display_name": 7}, 13, 13),
        row("/aisix/plugins/p", b"{}", 14, 14),
    ]
    bad = apply(good, Changes(events, 14), later)
    external = build(
        Listing((row("/ext/aisix/secret_providers/v", b"{", 15),), 15), empty("/ext/aisix", EXTERNAL_KINDS), later
    )
    short = Shortcomings()
    short.follow(bad, external)
    assert short.rejected_count == 5
    told = {(each.kind, each.id, each.failure, each.external, each.key) for each in short.rejected}
    assert told == {
        ("provider_keys", "a", "non_json", False, ""),
        ("", "", "bad_key", False, "nothing"),
        ("models", "m", "schema_failed", False, ""),
        ("plugins", "p", "unknown_kind", False, ""),
        ("secret_providers", "v", "non_json", True, ""),
    }
    assert {each.at for each in short.rejected} == {UNIX + 90}
    assert {each.id: each.stale_since for each in short.rejected if each.stale_since} == {"a": UNIX + 90}
    assert [each.id for each in short.rejected] == ["v", "p", "m", "", "a"], "the newest first"


def test_a_rejected_row_is_written_as_small_as_it_can_be() -> None:
    written = msgspec.json.encode(RejectedResource("models", "m", "bad", failure="schema_failed", at=5))
    assert written == b'{"kind":"models","id":"m","reason":"bad","failure":"schema_failed","at":5}'


def test_texts_are_cut() -> None:
    long = "x" * 5000
    short = Shortcomings()
    short.follow(
        snapshot(row(f"/aisix/models/{long}", b"{"), row(f"/aisix/{long}", b"{"), provider_key("a", **{long: 1}))
    )
    assert {len(each.id) for each in short.rejected} == {0, 256}
    assert {len(each.key) for each in short.rejected} == {0, 256}
    assert all(len(each.field) <= 256 for each in short.fields)
    assert len(short.fields) == 1


def test_fields_that_nobody_knows_are_counted_and_kept_up_with_changes() -> None:
    short = Shortcomings()

    def fields(now: Snapshot) -> list[tuple[str, str, int]]:
        short.follow(now)
        fresh = Shortcomings()
        fresh.follow(now)
        assert short.fields == fresh.fields, "as if counted anew"
        return [(each.kind, each.field, each.count) for each in short.fields]

    now = snapshot(provider_key("a", x=1), provider_key("b", x=1, y=2), provider_key("c"))
    assert fields(now) == [("provider_keys", "x", 2), ("provider_keys", "y", 1)]
    now = apply(now, Changes([provider_key("c", 11, y=1), provider_key("a", 12)], 12), NOON)
    assert fields(now) == [("provider_keys", "x", 1), ("provider_keys", "y", 2)]
    now = apply(now, Changes([Deleted("/aisix/provider_keys/b", 13)], 13), NOON)
    assert fields(now) == [("provider_keys", "y", 1)]
    assert fields(build(Listing((), 14), now, NOON)) == []


def test_what_has_not_changed_is_not_made_anew() -> None:
    now = snapshot(provider_key("a", x=1), row("/aisix/models/m", b"{"))
    short = Shortcomings()
    short.follow(now)
    rejected, fields = short.rejected, short.fields
    short.follow(apply(now, Changes([provider_key("b", 11)], 11), NOON))
    assert short.rejected is rejected
    assert short.fields is fields


def test_it_is_bounded_and_the_most_frequent_fields_are_told() -> None:
    rows = [provider_key(f"k{n}", **{f"f{m:03}": 1 for m in range(n, 50 + n)}) for n in range(200)]
    short = Shortcomings()
    short.follow(snapshot(*rows, *(row(f"/aisix/models/{n}", b"{", n) for n in range(300))))
    assert (short.rejected_count, len(short.rejected), len(short.fields)) == (300, 64, 64)
    assert isinstance(short.fields[0], UnknownField)
    assert min(each.count for each in short.fields) == 50
