"""Which member of a union a document is."""

from typing import Any

import pytest
from msgspec import Struct, inspect

from aisix_common.resources.shapes import alternatives, chosen, members, tag_field, tagged, tags


class Cat(Struct, tag_field="kind", tag="cat"):
    """A member."""


class Dog(Struct, tag_field="kind", tag="dog"):
    """Another one."""


class Plain(Struct):
    """No member of anything."""


def union(kind: Any) -> list[inspect.Type]:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.UnionType)
    return alternatives(info)


@pytest.mark.parametrize(
    ("value", "which"),
    [
        ({"kind": "cat"}, Cat),
        ({"kind": "dog", "more": 1}, Dog),
        ({"kind": "cow"}, None),
        ({"kind": ["cat"]}, None),
        ({}, None),
        ("cat", None),
        (None, None),
    ],
)
def test_by_tag(value: Any, which: type | None) -> None:
    choice = chosen(union(Cat | Dog | None), value)
    assert (choice.cls if isinstance(choice, inspect.StructType) else None) is which


@pytest.mark.parametrize(
    ("value", "which"),
    [
        ({"a": 1}, inspect.StructType),
        ([1], inspect.VarTupleType),
        ("x", inspect.StrType),
        (5, inspect.StrType),
        (None, inspect.StrType),
    ],
)
def test_by_json_type(value: Any, which: type) -> None:
    assert type(chosen(union(str | tuple[int, ...] | Plain), value)) is which


def test_one_choice_is_no_choice() -> None:
    assert chosen(union(Plain | None), 5) is not None


def test_names() -> None:
    assert members(Cat | Dog) == (Cat, Dog)
    assert members(Plain) == (Plain,)
    assert tags(union(Cat | Dog)) == ["cat", "dog"]
    assert tag_field(union(Cat | Dog)) == "kind"
    assert tag_field(union(str | Plain)) is None
    assert (tagged(Cat()), tagged(Plain())) == ({"kind": "cat"}, {})
