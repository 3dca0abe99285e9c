"""Which caller keys are in use: the union over all rows, and who is new."""

import msgspec

from aisix_cloud_agent.budgets.asked import MOST_ID, AskedKeys
from aisix_common.managed.budgets import Asked, asked_key, shard_of
from aisix_common.store.types import Alive, Changes, Deleted, KeyValue, Listing, Lost

SHARD = shard_of("a")


def row(instance: str, *keys: str, value: bytes | None = None) -> KeyValue:
    raw = msgspec.json.encode(Asked(keys)) if value is None else value
    return KeyValue(asked_key("/run", SHARD, instance), raw, 1, 1)


def gone(instance: str) -> Deleted:
    return Deleted(asked_key("/run", SHARD, instance), 2)


def changes(*events: KeyValue | Deleted) -> Changes:
    return Changes(events, 2)


def test_a_key_is_in_use_while_one_row_names_it_and_new_once() -> None:
    asked = AskedKeys()
    assert asked.apply(Listing((row("1", "a", "b"), row("2", "b", "c")), 1)) == ["a", "b", "c"]
    assert asked.apply(changes(row("1", "b"))) == []
    assert "a" not in asked
    assert asked.apply(changes(gone("1"))) == []
    assert "b" in asked, "the other one names it"
    assert asked.apply(changes(gone("2"), row("3", "a"))) == ["a"]
    assert (len(asked), asked.beyond) == (1, 0)
    assert asked.apply(changes(gone("3"), gone("nobody"))) == []
    assert len(asked) == 0


def test_a_row_that_is_written_anew_makes_nothing_new() -> None:
    asked = AskedKeys()
    asked.apply(changes(row("1", "a")))
    assert asked.apply(changes(row("1", "a", "b"))) == ["b"]
    assert asked.apply(changes(row("1", "b"), row("1", "b", "a"))) == ["a"]


def test_a_listing_replaces_everything() -> None:
    asked = AskedKeys()
    asked.apply(Listing((row("1", "a"), row("2", "b")), 1))
    assert asked.apply(Listing((row("2", "b", "c"),), 2)) == ["c"]
    assert "a" not in asked
    assert asked.apply(Lost("away")) == asked.apply(Alive(3)) == ()
    assert len(asked) == 2


def test_a_key_that_came_and_went_at_once_is_not_new() -> None:
    asked = AskedKeys()
    assert asked.apply(changes(row("1", "a"), gone("1"))) == []


def test_damaged_rows_and_impossible_keys_name_nobody() -> None:
    asked = AskedKeys()
    rows = (row("1", value=b"{"), row("2", value=b'{"keys":[7]}'), row("3", "", "a", "a", "x" * (MOST_ID + 1)))
    assert asked.apply(Listing(rows, 1)) == ["a"]
    assert asked.apply(changes(row("3", value=b"[]"))) == []
    assert len(asked) == 0


def test_so_many_at_most_and_others_when_there_is_room() -> None:
    asked = AskedKeys(most=2)
    assert asked.apply(Listing((row("1", "a"), row("2", "b", "c", "d")), 1)) == ["a", "b"]
    assert (len(asked), asked.beyond) == (2, 2)
    assert asked.apply(changes(gone("1"))) == ["c"]
    assert asked.beyond == 1
