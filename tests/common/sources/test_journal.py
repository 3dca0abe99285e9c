"""What the log says of configuration: each thing once, bounded, and no value of any row."""

import pytest

from aisix_common.snapshot import Snapshot, apply, build, empty
from aisix_common.sources.journal import LINES_AT_ONCE, Journal
from aisix_common.store.types import Changes, KeyValue, Listing

from .support import Log
from tests.common.snapshot.rows import BAD, NOON, PREFIX, api_key, changes, gone, listing, row


class Told:
    """A journal fed with listings and changes."""

    def __init__(self) -> None:
        self.log = Log()
        self.snapshot: Snapshot = empty(PREFIX)
        self._journal = Journal(self.log.log)

    def __call__(self, *steps: Listing | Changes) -> list[str]:
        """The events of the lines that `steps` brought."""
        before = len(self.log.lines)
        for step in steps:
            if isinstance(step, Listing):
                after, keys = build(step, self.snapshot, NOON), None
            else:
                after, keys = apply(self.snapshot, step, NOON), {event.key for event in step.events}
            self._journal.record(self.snapshot, after, keys)
            self.snapshot = after
        return [line["event"] for line in self.log.lines[before:]]


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_rejection_begins_and_ends_once(told: Told) -> None:
    bad = row("models/m", b'{"display_name":"x","provider":"SK-CANARY"}', 2)
    assert told(listing(bad), listing(bad), changes(bad)) == ["a resource was rejected"]
    assert told(changes(gone("models/m", 3))) == ["a resource is no longer rejected"]
    assert told(listing(bad), listing(revision=9)) == ["a resource was rejected", "a resource is no longer rejected"]
    assert "SK-CANARY" not in str(told.log.lines)


def test_another_reason_is_told_again(told: Told) -> None:
    told(listing(row("models/m", b"{", 2)))
    assert told(changes(row("models/m", b"{}", 3, created=2))) == ["a resource was rejected"]


def test_a_last_good_value_is_mentioned(told: Told) -> None:
    told(listing(api_key("a", "h", 1)))
    assert told(changes(row("api_keys/a", BAD, 2, created=1))) == [
        "a resource was rejected: its last good value is served"
    ]


def test_an_unknown_field_is_told_once(told: Told) -> None:
    assert told(listing(api_key("a", "h", 1, new=1))) == ["a field nobody knows is ignored"]
    assert told(changes(api_key("b", "i", 2, new=1))) == []
    assert told(changes(api_key("c", "j", 3, newer=1))) == ["a field nobody knows is ignored"]


def test_a_shadowed_row_is_told_once_and_without_its_name(told: Told) -> None:
    older, younger = api_key("a", "SECRET-HASH", 1), api_key("b", "SECRET-HASH", 2)
    assert told(listing(older, younger), listing(older, younger)) == ["a row's name belongs to an older row"]
    assert "SECRET-HASH" not in str(told.log.lines)


def test_many_rejections_do_not_flood_the_log(told: Told) -> None:
    rows: list[KeyValue] = [row(f"models/{n}", b"{", n + 1) for n in range(150)]
    lines = told(listing(*rows))
    assert len(lines) == LINES_AT_ONCE + 1
    assert told.log.lines[-1]["count"] == 150 - LINES_AT_ONCE
    assert len(told(listing(revision=200))) <= LINES_AT_ONCE + 1
