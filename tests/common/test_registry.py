"""Registries keep their order and refuse two members of one name."""

import pytest

from aisix_common.registry import index


def test_by_name_in_order() -> None:
    by_name = index(("b", "a"), str.upper)
    assert list(by_name.items()) == [("B", "b"), ("A", "a")]


def test_two_of_one_name_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="'A'"):
        index(("a", "A"), str.upper)


def test_read_only() -> None:
    with pytest.raises(TypeError):
        index(("a",), str)["b"] = "b"  # type: ignore[index]
