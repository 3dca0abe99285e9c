"""The registry of kinds and what schemas derived from it rely on."""

from typing import Any

import msgspec
import pytest

from aisix_common.resources import BY_NAME, KINDS, UNSERVED, Kind


def test_the_reference_kinds_are_all_known() -> None:
    assert len(KINDS) + len(UNSERVED) == 15
    assert not BY_NAME.keys() & UNSERVED


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_optional_fields_say_whether_they_take_null(kind: Kind[Any]) -> None:
    for field in msgspec.inspect.type_info(kind.struct).fields:  # type: ignore[attr-defined]
        takes_null = isinstance(field.type, msgspec.inspect.UnionType) and any(
            isinstance(each, msgspec.inspect.NoneType) for each in field.type.types
        )
        assert takes_null <= kind.nulls, field.name


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_struct_is_frozen_and_closed(kind: Kind[Any]) -> None:
    config = kind.struct.__struct_config__
    assert config.frozen
    assert config.forbid_unknown_fields
    assert kind.name_field in kind.struct.__struct_fields__
