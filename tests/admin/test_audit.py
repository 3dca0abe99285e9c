"""Audit rows: their keys sort newest first, and they are found by what was done."""

import json
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisix_admin.audit import Actor, Changed, Entry, Filter, entry, key_of, older_than, read_entry, shown

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
ACTOR = Actor("ops", "192.0.2.1", "r-1")
MILLISECOND = timedelta(milliseconds=1)


def test_newer_keys_sort_first_and_the_bound_parts_older_from_newer() -> None:
    moments = [NOW + n * MILLISECOND for n in range(-3, 4)]
    keys = [key_of(moment, "token") for moment in moments]
    assert sorted(keys, reverse=True) == keys
    assert [key >= older_than(NOW) for key in keys] == [True, True, True, False, False, False, False]
    assert key_of(NOW, "a") != key_of(NOW, "b")
    assert key_of(NOW, "a") == key_of(NOW.astimezone(timezone(timedelta(hours=9))), "a")


@given(st.datetimes(timezones=st.just(UTC)))
def test_moments_outside_of_what_can_be_counted_stand_at_the_ends(moment: datetime) -> None:
    key = key_of(moment, "t")
    assert len(key) == 15
    if moment < NOW - MILLISECOND:
        assert key > key_of(NOW, "t") and older_than(moment) > older_than(NOW)
    elif moment > NOW + MILLISECOND:
        assert key < key_of(NOW, "t") and older_than(moment) < older_than(NOW)


def test_a_row_and_how_it_is_answered() -> None:
    changes = (
        Changed("models", "1", "replaced", "gpt", ("/timeout",)),
        Changed("api_keys", "2", "deleted"),
    )
    one = entry(NOW, ACTOR, changes)
    assert read_entry(msgspec.json.encode(one)) == one
    assert shown("8-a", 7, one) == {
        "id": "8-a",
        "revision": 7,
        "at": "2026-01-02T03:04:05Z",
        "who": "ops",
        "from": "192.0.2.1",
        "request_id": "r-1",
        "changes": [
            {"kind": "models", "id": "1", "action": "replaced", "label": "gpt", "changed": ["/timeout"]},
            {"kind": "api_keys", "id": "2", "action": "deleted", "changed": []},
        ],
    }
    assert shown("8-a", 7, entry(NOW, ACTOR, changes, forced=True))["forced"] is True


@pytest.mark.parametrize("raw", [b"", b"\xff", b"[]", b"{}", b"[" * 100_000, json.dumps({"at": 1}).encode()])
def test_a_row_that_cannot_be_read_hides_no_other(raw: bytes) -> None:
    assert read_entry(raw) is None


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Filter(), True),
        (Filter(who="ops"), True),
        (Filter(who="op"), False),
        (Filter(kind="models"), True),
        (Filter(kind="models", id="1", action="replaced", who="ops"), True),
        (Filter(kind="api_keys", id="2"), True),
        (Filter(kind="models", id="2"), False),
        (Filter(id="1", action="deleted"), False),
        (Filter(kind="guardrails"), False),
        (Filter(action="created"), False),
    ],
)
def test_what_is_looked_for_is_true_of_one_change(wanted: Filter, found: bool) -> None:
    one = Entry("", "ops", "", "", (Changed("models", "1", "replaced"), Changed("api_keys", "2", "deleted")))
    assert wanted.takes(one) is found
