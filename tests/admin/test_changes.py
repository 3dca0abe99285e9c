"""What differs between two documents."""

from typing import Any

import pytest

from aisix_admin.changes import LONGEST_PATH, MOST_PATHS, changed_paths, diff


@pytest.mark.parametrize(
    ("before", "after", "paths"),
    [
        ({}, {}, []),
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 1.0}, []),
        ({"a": 1}, {"a": True}, ["/a"]),
        ({"a": 0}, {"a": False}, ["/a"]),
        ({"a": 1}, {"a": "1"}, ["/a"]),
        ({"a": 1}, {}, ["/a"]),
        ({}, {"a": None}, ["/a"]),
        ({"a": None}, {"a": None}, []),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3, "d": 4}}, ["/a/c", "/a/d"]),
        ({"a": {"b": 1}}, {"a": [1]}, ["/a"]),
        ({"a": {}}, {}, ["/a"]),
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, ["/a"]),
        ({"a/b": 1, "c~d": 1, "": 1}, {}, ["/a~1b", "/c~0d", "/"]),
        ({"b": 1, "a": 1}, {"c": 1, "a": 2, "b": 2}, ["/b", "/a", "/c"]),
        (None, {"a": 1}, ["/a"]),
        ({"a": 1}, None, ["/a"]),
        (None, None, []),
    ],
)
def test_paths(before: dict[str, Any] | None, after: dict[str, Any] | None, paths: list[str]) -> None:
    assert changed_paths(before, after) == tuple(paths)
    assert [each["path"] for each in diff(before or {}, after or {})] == paths


def test_a_difference_has_the_sides_that_are_there() -> None:
    assert diff({"a": None, "b": 1, "c": {"d": 1}}, {"a": 2, "c": {"d": 1, "e": None}}) == [
        {"path": "/a", "from": None, "to": 2},
        {"path": "/b", "from": 1},
        {"path": "/c/e", "to": None},
    ]


def test_paths_are_bounded_in_number_and_length() -> None:
    most = {str(n): n for n in range(MOST_PATHS)}
    assert len(changed_paths({}, most)) == MOST_PATHS
    paths = changed_paths({}, {**most, "one more": 1, "two more": 1})
    assert len(paths) == MOST_PATHS + 1 and paths[-1] == "..."
    (long,) = changed_paths({}, {"x" * 100_000: 1})
    assert long == "/" + "x" * (LONGEST_PATH - 1) + "..."
