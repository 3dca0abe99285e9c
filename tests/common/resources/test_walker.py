"""The walk over types: every flaw in words, unknown paths, and the rule that a clean walk decodes."""

from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Meta, UnsetType

from aisix_common.resources import KINDS, Kind
from aisix_common.resources.reading import one_spelling
from aisix_common.resources.scalars import U32, U64, Fraction, SecretText
from aisix_common.resources.sensitive import conceal
from aisix_common.resources.walker import walk

from .cases import load


class Thing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    text: Annotated[str, Meta(min_length=2, max_length=3, pattern=r"^[a-z]+\Z")] | UnsetType = UNSET
    wide: U64 | None = None
    narrow: U32 | UnsetType = UNSET
    bounded: Annotated[int, Meta(ge=5, le=9)] | UnsetType = UNSET
    part: Fraction | UnsetType = UNSET
    flag: bool = False
    word: Literal["a", "b"] = "a"
    several: Annotated[tuple[str, ...], Meta(min_length=1)] | UnsetType = UNSET
    secret: SecretText | UnsetType = UNSET


@pytest.mark.parametrize(
    ("document", "reasons"),
    [
        ([], ['value is not of type "object"']),
        ({"text": "a"}, ["value is shorter than 2 characters"]),
        ({"text": "abcd"}, ["value is longer than 3 characters"]),
        ({"text": "ab\n"}, ['value does not match "^[a-z]+\\Z"']),
        ({"text": 5}, ['value is not of type "string"']),
        ({"wide": -1}, ["value is less than the minimum of 0"]),
        ({"wide": 2**64}, ["an integer outside of 0 to 18446744073709551615"]),
        ({"wide": 1e300}, ["an integer written with a fraction or an exponent"]),
        ({"narrow": None}, ['value is not of type "integer"']),
        ({"narrow": 2**32}, ["an integer outside of 0 to 4294967295"]),
        ({"bounded": 4}, ["value is less than the minimum of 5"]),
        ({"bounded": 10}, ["value is greater than the maximum of 9"]),
        ({"part": 1.5}, ["value is greater than the maximum of 1"]),
        ({"part": True}, ['value is not of type "number"']),
        ({"flag": 0}, ['value is not of type "boolean"']),
        ({"word": "c"}, ['value is not one of "a", "b"']),
        ({"several": []}, ["value is shorter than 1 item"]),
        ({"several": {}}, ['value is not of type "array"']),
        ({"secret": ""}, ["value is shorter than 1 character"]),
        ({"secret": 1}, ['value is not of type "string"']),
        ({"flag": 0, "part": 2, "x": 1}, ["value is greater than the maximum of 1", 'value is not of type "boolean"']),
    ],
)
def test_words(document: Any, reasons: list[str]) -> None:
    assert [flaw.reason for flaw in walk(Thing, document, strict=False, nulls=True).flaws] == reasons


def test_null_is_a_matter_of_the_kind() -> None:
    assert not walk(Thing, {"wide": None}, strict=False, nulls=True).flaws
    assert walk(Thing, {"wide": None}, strict=False, nulls=False).flaws


def test_unknown_fields() -> None:
    lenient = walk(Thing, {"x": {"y": 1}, "flag": True}, strict=False, nulls=True)
    assert (lenient.flaws, lenient.unknown, lenient.cleaned) == ([], {"x"}, {"flag": True})
    assert [flaw.reason for flaw in walk(Thing, {"x": 1}, strict=True, nulls=True).flaws] == ["unknown field"]


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))


@given(st.sampled_from([(kind, case) for kind in KINDS for case in load(kind.name)]), st.data())
def test_walker_and_decoder_agree(chosen: tuple[Kind[Any], Any], data: st.DataObject) -> None:
    """What the walk finds sound, msgspec decodes; what it finds broken, msgspec refuses (but for widths and nulls)."""
    kind, case = chosen
    document = one_spelling(kind, case.document)[0]
    if isinstance(document, dict):
        document = {
            **document,
            data.draw(
                st.sampled_from(sorted({name for struct in kind.structs for name in struct.__struct_fields__}))
            ): data.draw(VALUES),
        }
    findings = walk(kind.struct, document, strict=False, nulls=kind.nulls)
    try:
        msgspec.convert(findings.cleaned, kind.struct, dec_hook=conceal)
    except msgspec.ValidationError:
        assert findings.flaws
    else:
        beyond_msgspec = ("outside of", "fraction", "shorter than 1 character", "not of type")
        assert all(any(word in flaw.reason for word in beyond_msgspec) for flaw in findings.flaws)
