"""The map behind large tables behaves as a dict, at every size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisix_common.snapshot.sharded import NOTHING, SMALL, Editor, Sharded


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
