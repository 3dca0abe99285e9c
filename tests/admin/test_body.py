"""From bytes to one JSON object."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisix_admin.body import MOST_VALUES, parse_object, require_json
from aisix_admin.errors import Invalid, TooLarge, WrongMediaType


@pytest.mark.parametrize(
    "value", ["application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json"]
)
def test_declared_as_json(value: str) -> None:
    require_json(value)


@pytest.mark.parametrize("value", [None, "", "text/json", "application/jsonx", "json", "application/xml", "*/*"])
def test_not_declared_as_json(value: str | None) -> None:
    with pytest.raises(WrongMediaType):
        require_json(value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xef\xbb\xbf{}",
        b'{"a": "\xff"}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": 1, "a": 1}',
        b'{"b": [{"a": 1, "a": 2}]}',
        b'{"a": "\\ud800"}',
        b'{"\\udfff": 1}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b"[" * 100_000,
        b"{} {}",
    ],
)
def test_refused(body: bytes) -> None:
    with pytest.raises(Invalid) as refused:
        parse_object(body)
    assert refused.value.status == 400
    assert "999" not in refused.value.message


def test_taken() -> None:
    assert parse_object(b' {"a": {"__proto__": ["\\ud83d\\ude00", 1.5, null]}} ') == {
        "a": {"__proto__": ["\N{GRINNING FACE}", 1.5, None]}
    }


@given(st.binary(max_size=200))
def test_bytes_never_raise_anything_else(body: bytes) -> None:
    try:
        assert isinstance(parse_object(body), dict)
    except Invalid:
        pass


def test_a_body_of_very_many_values_is_refused() -> None:
    assert parse_object(b'{"a": [' + b"1," * (MOST_VALUES - 3) + b"1]}")
    with pytest.raises(TooLarge, match=str(MOST_VALUES)):
        parse_object(b'{"a": [' + b"1," * MOST_VALUES + b"1]}")
