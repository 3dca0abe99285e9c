"""What a batch of usage events holds, and the body that is made of it."""

import datetime as dt
import json

import pytest

from aisix_cloud_agent.usage.batches import body, calls, halves, read_batch
from aisix_common.managed.outbox import DamagedBatch, packed

NOW = dt.datetime(2026, 6, 15, 12, tzinfo=dt.UTC)


def test_events_are_spliced_as_they_were_written() -> None:
    texts = [b'{"request_id":"r-1", "cost_usd":0.10,"x":[1e3]}', '{"request_id":"ü","attempt_index":1}'.encode()]
    batch = read_batch(packed(texts))
    assert batch.broken == 0
    assert [event.request_id for event in batch.events] == ["r-1", "ü"]
    assert body(batch.events) == b'{"events":[' + texts[0] + b"," + texts[1] + b"]}"


def test_lines_that_are_no_objects_are_counted_and_keep_their_place() -> None:
    lines = [b"[]", b'{"request_id":"r"}', b'{"torn":', b"7", b"\xff{}", b'{"request_id":7}', b"[" * 5000]
    batch = read_batch(packed(lines))
    assert [(event.index, event.request_id) for event in batch.events] == [(1, "r"), (5, "")]
    assert batch.broken == 5
    json.loads(body(batch.events))


@pytest.mark.parametrize("value", [b"", b"no zlib", packed([b"{}"])[:-3]])
def test_a_row_that_is_no_batch_is_damaged(value: bytes) -> None:
    with pytest.raises(DamagedBatch):
        read_batch(value)


@pytest.mark.parametrize(
    ("occurred_at", "age"),
    [
        ('"2026-06-15T11:00:00Z"', 3600),
        ('"2026-06-15T13:00:00+02:00"', 3600),
        ('"2026-06-15T11:00:00"', 3600),
        ('"2026-06-15T13:00:00Z"', -3600),
        ('"yesterday"', None),
        ("7", None),
        ("null", None),
    ],
)
def test_the_age_of_an_event_is_what_it_says(occurred_at: str, age: int | None) -> None:
    (event,) = read_batch(packed([b'{"occurred_at":' + occurred_at.encode() + b"}"])).events
    assert event.occurred == (None if age is None else NOW - dt.timedelta(seconds=age))
    assert event.older(dt.timedelta(seconds=3599), NOW) == (age == 3600)
    assert not event.older(dt.timedelta(seconds=3600), NOW)


def test_the_oldest_is_the_first_that_says_when() -> None:
    batch = read_batch(packed([b"{}", b'{"occurred_at":"2026-06-15T11:00:00Z"}']))
    assert batch.oldest == NOW - dt.timedelta(hours=1)
    assert read_batch(packed([b"{}"])).oldest is None


def test_a_call_has_a_hundred_events_at_most() -> None:
    events = read_batch(packed([b"{}"] * 250)).events
    parts = calls(events)
    assert [len(part) for part in parts] == [100, 100, 50]
    assert [event.index for part in parts for event in part] == list(range(250))
    first, second = halves(events[:3])
    assert [event.index for event in (*first, *second)] == [0, 1, 2]
    assert first
    assert second
