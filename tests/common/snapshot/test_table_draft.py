"""Names that two rows claim: who has them, and who takes over."""

from typing import Any

import pytest

from aisix_common.resources import ApiKey
from aisix_common.snapshot import Snapshot, apply, build, empty
from aisix_common.store.types import KeyValue

from .rows import BAD, LATER, NOON, PREFIX, api_key, changes, gone, listing, row


def built(*rows: KeyValue) -> Snapshot:
    return build(listing(*rows), empty(PREFIX), NOON)


class TestNamesGivenTwice:
    def test_the_row_created_first_wins_and_the_other_is_reported(self) -> None:
        younger, older = api_key("a", "same", 9, created=7), api_key("b", "same", 8, created=3)
        for rows in ((younger, older), (older, younger)):
            table = built(*rows).table(ApiKey)
            assert table.by_name["same"].id == "b"
            assert list(table.shadowed()) == [("a", "b")]
            assert len(table.by_id) == 2

    def test_made_in_one_transaction_the_lower_id_wins(self) -> None:
        table = built(api_key("b", "same", 5), api_key("a", "same", 5), api_key("c", "same", 5)).table(ApiKey)
        assert table.by_name["same"].id == "a"
        assert list(table.shadowed()) == [("b", "a"), ("c", "a")]

    @pytest.mark.parametrize("event", [gone("api_keys/a", 9), api_key("a", "other", 9, created=1)])
    def test_when_the_winner_goes_the_other_takes_over(self, event: Any) -> None:
        both = built(api_key("a", "same", 1), api_key("b", "same", 2))
        after = apply(both, changes(event), LATER)
        assert after.table(ApiKey).by_name["same"].id == "b"
        assert not list(after.table(ApiKey).shadowed())
        assert after.touched == {"api_keys": frozenset({"a", "b"})}

    def test_when_the_loser_goes_nothing_changes_for_the_winner(self) -> None:
        both = built(api_key("a", "same", 1), api_key("b", "same", 2))
        after = apply(both, changes(gone("api_keys/b", 9)), LATER)
        assert after.table(ApiKey).by_name["same"].id == "a"

    def test_a_stale_winner_still_wins(self) -> None:
        both = built(api_key("a", "same", 1), api_key("b", "same", 2))
        after = apply(both, changes(row("api_keys/a", BAD, 3, created=1)), LATER)
        assert after.table(ApiKey).by_name["same"].id == "a"
