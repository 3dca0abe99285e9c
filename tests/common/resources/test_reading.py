"""The lenient read beyond the table: it never raises, agrees with itself, and stays short."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json

from aisix_common.resources import API_KEYS, KINDS, MODELS, PROVIDER_KEYS, Kind, Loaded, Rejected, read
from aisix_common.resources.reading import MOST_UNKNOWN, TRUNCATED

from .cases import load

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))


@given(st.sampled_from(KINDS), st.binary())
def test_any_bytes(kind: Kind[Any], raw: bytes) -> None:
    assert isinstance(read(kind, raw), Loaded | Rejected)


@given(st.sampled_from([(kind, case) for kind in KINDS for case in load(kind.name)]), st.data())
def test_any_field_replaced_by_anything(chosen: Any, data: st.DataObject) -> None:
    kind, case = chosen
    document = case.document if isinstance(case.document, dict) else {}
    names = st.sampled_from(
        sorted({*document, *(name for struct in kind.structs for name in struct.__struct_fields__), "unheard_of"})
    )
    changed = {**document, data.draw(names): data.draw(VALUES)}
    assert isinstance(read(kind, json.encode(changed)), Loaded | Rejected)


@given(st.sampled_from([(kind, case) for kind in KINDS for case in load(kind.name) if case.lenient == "ok"]))
def test_an_unknown_field_changes_nothing_but_the_report(chosen: Any) -> None:
    kind, case = chosen
    plain = read(kind, json.encode(case.document))
    more = read(kind, json.encode({**case.document, "unheard_of": {"a": [1]}}))
    assert isinstance(plain, Loaded)
    assert isinstance(more, Loaded)
    assert more.value == plain.value
    assert set(more.unknown) == {*plain.unknown, "unheard_of"}


def test_long_lists_of_unknown_fields_are_cut() -> None:
    row = {"key_hash": "x", "allowed_models": [], **{f"f{n:03}": 1 for n in range(100)}}
    outcome = read(API_KEYS, json.encode(row))
    assert isinstance(outcome, Loaded)
    assert len(outcome.unknown) == MOST_UNKNOWN + 1
    assert outcome.unknown[-1] == TRUNCATED


def test_a_long_name_is_shortened() -> None:
    outcome = read(API_KEYS, json.encode({"key_hash": "x", "allowed_models": [], "n" * 10_000: 1}))
    assert isinstance(outcome, Loaded)
    assert len(outcome.unknown[0]) < 200


def test_the_text_of_a_schema_failure() -> None:
    outcome = read(API_KEYS, b'{"key_hash":"x","allowed_models":[],"rate_limit":{"rpm":-987}}')
    assert outcome == Rejected(
        "schema_failed", "schema validation failed at `/rate_limit/rpm`: value is less than the minimum of 0"
    )


def test_the_text_of_a_parse_failure() -> None:
    outcome = read(PROVIDER_KEYS, b'{"display_name":"x","api_key":"a","secret":"b"}')
    assert isinstance(outcome, Rejected)
    assert outcome.message.startswith("malformed ProviderKey payload: at `/api_key`: ")


def test_digits_in_text_do_not_make_a_row_bad() -> None:
    assert isinstance(read(API_KEYS, b'{"key_hash":"%s","allowed_models":[]}' % (b"1" * 64)), Loaded)


def test_the_word_null_in_text_does_not_make_a_row_bad() -> None:
    row = b'{"display_name":"null","provider":"a","model_name":"null","provider_key_id":"k"}'
    assert isinstance(read(MODELS, row), Loaded)


@pytest.mark.parametrize("number", [2**63 - 1, 2**63, 2**64 - 1])
def test_wide_integers_are_read_exactly(number: int) -> None:
    outcome = read(API_KEYS, b'{"key_hash":"x","allowed_models":[],"rate_limit":{"tpd":%d}}' % number)
    assert isinstance(outcome, Loaded)
    assert outcome.value.rate_limit is not None
    assert outcome.value.rate_limit.tpd == number
