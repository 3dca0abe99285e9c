"""Pages of a collection: queries, cursors, and that paging gives every row once."""

import base64
import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisix_admin.errors import Invalid
from aisix_admin.listing import MOST, ORDERS, USUAL, Position, Query, cursor, read_cursor

ROWS = sorted([("", "9"), ("", "1"), ("a", "5"), ("ab", "2"), ("b", "8"), ("b", "3"), ("ba", "4")])


def test_a_bare_call_asks_for_nothing_special() -> None:
    assert Query.read({}) is None
    assert Query.read({"wait": "5s"}) is None
    assert Query.read({"limit": "5"}) == Query(5)
    assert Query.read({"name": "a*", "sort": "-name"}) == Query(USUAL, None, "a*", "-name")


@pytest.mark.parametrize("limit", ["0", "-1", "1.0", "", " 1", "1_0", "\u0661", str(MOST + 1), "9" * 5000, "x"])
def test_a_limit_is_a_number_within_bounds(limit: str) -> None:
    with pytest.raises(Invalid, match=r"^the query is wrong: \?limit: must be a whole number from 1 to 1000$"):
        Query.read({"limit": limit})


def test_everything_wrong_is_told_at_once() -> None:
    with pytest.raises(Invalid) as refused:
        Query.read({"limit": "x", "sort": "size", "cursor": "?", "name": "a*b*"})
    assert [problem.path for problem in refused.value.problems] == ["?limit", "?sort", "?cursor", "?name"]


@pytest.mark.parametrize("order", ORDERS)
def test_a_cursor_comes_back_as_it_was(order: str) -> None:
    problems: list[object] = []
    position = Position(order, 'n\u00e9 "x"/+', "id/1")
    text = cursor(position)
    assert text.replace("-", "").replace("_", "").isalnum(), "it needs no escaping in a URL"
    assert read_cursor(text, order, problems) == position and not problems  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    ["", "x", "....", "\u00e9", base64.urlsafe_b64encode(b"[1,2,3]").decode(), base64.b64encode(b"[" * 9000).decode()],
)
def test_a_cursor_that_was_made_up_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match=r"\?cursor: must be the `next_cursor` of the page before"):
        Query.read({"cursor": text})


def test_a_cursor_belongs_to_its_order() -> None:
    with pytest.raises(Invalid, match=r"\?cursor: belongs to another `sort`"):
        Query.read({"cursor": cursor(Position("name", "a", "1")), "sort": "-name"})


@given(st.text())
def test_any_cursor_is_read_or_refused(text: str) -> None:
    with suppress(Invalid):
        Query.read({"cursor": text})


@pytest.mark.parametrize(
    ("pattern", "name", "taken"),
    [
        (None, "x", True),
        ("a", "a", True),
        ("a", "ab", False),
        ("a*", "a", True),
        ("a*", "ba", False),
        ("*a", "ba", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("*", "", True),
        ("", "", True),
        ("", "a", False),
        ("a.c", "abc", False),
    ],
)
def test_names_and_patterns(pattern: str | None, name: str, taken: bool) -> None:
    assert (Query(name=pattern).chosen([(name, "id")])[0] == ["id"]) is taken


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        (Query(), ["1", "2", "3", "4", "5", "8", "9"]),
        (Query(order="name"), ["1", "9", "5", "2", "3", "8", "4"]),
        (Query(order="-name"), ["4", "8", "3", "2", "5", "9", "1"]),
        (Query(order="name", name="b"), ["3", "8"]),
        (Query(name="b*"), ["3", "4", "8"]),
        (Query(name="nobody"), []),
    ],
)
def test_orders(query: Query, ids: list[str]) -> None:
    assert query.chosen(ROWS) == (ids, None)


def test_the_last_page_has_no_cursor_even_when_it_is_full() -> None:
    ids, following = Query(7).chosen(ROWS)
    assert len(ids) == 7 and following is None
    ids, following = Query(6).chosen(ROWS)
    assert len(ids) == 6 and following is not None
    assert Query(2, name="b", order="name").chosen(ROWS) == (["3", "8"], None), "nothing behind is meant"


NAMES = st.sampled_from(["", "a", "aa", "ab", "b", "ba", "\u00e9", "a*"])
TABLE = st.dictionaries(st.sampled_from([f"{n}" for n in range(12)]), NAMES)


@given(TABLE, st.integers(1, 5), st.sampled_from(ORDERS), st.sampled_from([None, "a", "a*", "*a", "*", "b*a"]))
def test_paging_gives_every_row_once_and_in_order(table: dict[str, str], limit: int, order: str, name: str) -> None:
    rows = sorted((called, id) for id, called in table.items())
    meant = [(called, id) for called, id in rows if _matches(name, called)]
    wanted = [id for _, id in (meant[::-1] if order == "-name" else meant)]
    asked = {"limit": str(limit), "sort": order} | ({} if name is None else {"name": name})
    found: list[str] = []
    following: str | None = ""
    while following is not None:
        query = Query.read(asked | ({"cursor": following} if following else {}))
        assert query is not None
        ids, following = query.chosen(rows)
        assert len(ids) == limit or following is None
        found += ids
        assert len(found) <= len(rows), "it comes to an end"
    assert found == (sorted(wanted) if order == "id" else wanted)


@given(TABLE, st.sampled_from(ORDERS), st.sets(st.sampled_from([f"{n}" for n in range(12)])))
def test_rows_that_vanish_between_pages_hide_no_others(table: dict[str, str], order: str, gone: set[str]) -> None:
    rows = sorted((called, id) for id, called in table.items())
    first = Query.read({"limit": "2", "sort": order})
    assert first is not None
    found, following = first.chosen(rows)
    left = [row for row in rows if row[1] not in gone]
    while following is not None:
        query = Query.read({"limit": "2", "sort": order, "cursor": following})
        assert query is not None
        ids, following = query.chosen(left)
        found += ids
        assert len(found) <= len(rows), "it comes to an end"
    assert len(found) == len(set(found))
    assert {id for _, id in left} <= set(found)


def _matches(pattern: str | None, name: str) -> bool:
    """The rule, said another way."""
    if pattern is None:
        return True
    return re.fullmatch(".*".join(re.escape(part) for part in pattern.split("*")), name, re.DOTALL) is not None
