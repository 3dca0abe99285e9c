"""The map behind large tables behaves as a dict, at every size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisix_common.snapshot.sharded import NOTHING, SMALL, Editor, Sharded, differing, sharing


def made(items: dict[str, int]) -> Sharded[int]:
    editor = Editor[int]()
    for key, value in items.items():
        editor.put(key, value)
    return editor.done()


@pytest.mark.parametrize("size", [0, 1, SMALL, SMALL + 1, 5000])
def test_it_holds_what_was_put(size: int) -> None:
    items = {str(n): n for n in range(size)}
    sharded = made(items)
    assert dict(sharded) == items
    assert dict(sharded.items()) == items
    assert sorted(sharded.values()) == sorted(items.values())
    assert len(sharded) == size
    assert sharded.get("nothing") is None
    assert "nothing" not in sharded
    with pytest.raises(KeyError):
        sharded["nothing"]


@given(st.lists(st.tuples(st.text(max_size=2), st.none() | st.integers())), st.sampled_from([0, SMALL + 1]))
def test_changes_agree_with_a_dict_and_leave_the_start_alone(edits: list[tuple[str, int | None]], size: int) -> None:
    expected = {f"start{n}": n for n in range(size)}
    start = made(expected)
    then = dict(start)
    editor = Editor(start)
    for key, value in edits:
        if value is None:
            editor.drop(key)
            expected.pop(key, None)
        else:
            editor.put(key, value)
            expected[key] = value
        assert editor.get(key) == value
    assert dict(editor.done()) == expected
    assert len(editor.done()) == len(expected)
    assert dict(start) == then


def test_nothing_changed_is_the_same_map() -> None:
    start = made({"a": 1})
    editor = Editor(start)
    editor.drop("b")
    assert editor.done() is start
    assert len(NOTHING) == 0


@pytest.mark.parametrize(("before", "after"), [(3, 3), (3, SMALL + 1), (SMALL + 1, 3), (SMALL + 1, SMALL + 1), (0, 0)])
def test_what_differs_between_two_maps(before: int, after: int) -> None:
    items = {str(n): object() for n in range(max(before, after))}
    old, new = Editor[object](), Editor[object]()
    for n in range(before):
        old.put(str(n), items[str(n)])
    for n in range(after):
        new.put(str(n), items[str(n)])
    new.put("1", object())
    new.drop("2")
    expected = {"1", "2"} if before > 2 else {"1"}
    expected |= {str(n) for n in range(min(before, after), max(before, after))}
    first, second = old.done(), new.done()
    assert differing(first, second) == expected
    assert differing(second, first) == expected
    assert differing(first, first) == set()


def test_shards_in_common_are_not_looked_at() -> None:
    start = made({str(n): n for n in range(SMALL + 1)})
    editor = Editor(start)
    editor.put("5", 1_000_000)
    changed = editor.done()
    assert sum(a is not b for a, b in zip(start.shards(), changed.shards(), strict=True)) == 1
    assert differing(start, changed) == {"5"}


@pytest.mark.parametrize("size", [3, SMALL + 1])
def test_a_map_that_was_made_anew_shares_what_it_has_in_common(size: int) -> None:
    items = {str(n): object() for n in range(size)}
    old, new = Editor[object](), Editor[object]()
    for key in items:
        old.put(key, items[key])
    for key in reversed(items):
        new.put(key, items[key])
    new.put("1", object())
    before, after = old.done(), new.done()
    shared = sharing(before, after)
    assert dict(shared) == dict(after)
    assert len(shared) == size
    assert differing(before, shared) == {"1"}
    assert sum(a is not b for a, b in zip(before.shards(), shared.shards(), strict=True)) == 1
    assert dict(sharing(NOTHING, after)) == dict(after)
