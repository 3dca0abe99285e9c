"""Objects as members: bytes survive, duplicates resolve, and what is no JSON is told without its values."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisix_proxy.wire.members import (
    Malformed,
    decode_as,
    join_items,
    join_members,
    read_items,
    read_members,
)

ANY: msgspec.json.Decoder[object] = msgspec.json.Decoder()
DEEP = 100_000


def test_values_keep_their_bytes_and_order() -> None:
    data = b'{ "b" : 1.50 , "a":[1e999, {"x" :"\\u00e9"}],"__proto__":{} }'
    members = read_members(data)
    assert {name: bytes(value) for name, value in members.items()} == {
        "b": b"1.50",
        "a": b'[1e999, {"x" :"\\u00e9"}]',
        "__proto__": b"{}",
    }
    assert join_members(members) == b'{"b":1.50,"a":[1e999, {"x" :"\\u00e9"}],"__proto__":{}}'


@pytest.mark.parametrize(
    "items", [[], [b"1.50", b"1e999", b'{"x" :"\\u00e9"}', b"[ ]"], [b'"\\ud83d"'], [b'{"a": "\\ude00"}', b"2"]]
)
def test_items_keep_their_bytes_and_order(items: list[bytes]) -> None:
    read = read_items(b"[ " + b" , ".join(items) + b" ]")
    assert [bytes(item) for item in read] == items
    assert join_items(read) == b"[" + b",".join(items) + b"]"


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "is not valid JSON"),
        (b"{}", "must be a JSON array"),
        (b'{"a":"\\ud800"}', "must be a JSON array"),
        (b'["\\ud800",]', "is not valid JSON (byte 10)"),
        (b"[1,]", "is not valid JSON (byte 3)"),
        (b"[" * DEEP + b"]" * DEEP, "is nested too deeply"),
        (b'["\\ud800",' + b"[" * DEEP + b"]" * DEEP + b"]", "is nested too deeply"),
    ],
)
def test_items_that_are_refused(data: bytes, rule: str) -> None:
    with pytest.raises(Malformed) as caught:
        read_items(data)
    assert str(caught.value).startswith(rule)


def test_of_duplicates_the_last_counts_however_it_is_spelt() -> None:
    assert {k: bytes(v) for k, v in read_members(b'{"model":"a","\\u006dodel":"b"}').items()} == {"model": b'"b"'}


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "is not valid JSON"),
        (b"{", "is not valid JSON"),
        (b'{"a":NaN}', "is not valid JSON (byte 5)"),
        (b'{"a":-Infinity}', "is not valid JSON (byte 6)"),
        (b'{"a":1} {}', "is not valid JSON (byte 9)"),
        (b"\xef\xbb\xbf{}", "is not valid JSON (byte 0)"),
        (b'{"a":"\x01"}', "is not valid JSON (byte 6)"),
        (b'{"a":"\xff"}', "is not UTF-8"),
        (b'{"\xc0\x80":1}', "is not UTF-8"),
        (b'{"a":"\xed\xa0\x80"}', "is not UTF-8"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'{"a":' + b"[" * DEEP + b"]" * DEEP + b"}", "is nested too deeply"),
        (b'{"b":"\\ud800","a":' + b"[" * DEEP + b"]" * DEEP + b"}", "is nested too deeply"),
        (b'{"a":"\\ud800",}', "is not valid JSON (byte 14)"),
        (b'{"a":"\\udXYZ"}', "is not valid JSON"),
    ],
)
def test_what_is_refused(data: bytes, rule: str) -> None:
    with pytest.raises(Malformed) as caught:
        read_members(data)
    assert str(caught.value).startswith(rule)


@pytest.mark.parametrize(
    "value",
    [b'"\\ud800"', b'"\\udc00x"', b'"\\ud800\\ud800\\udc00"', b'["\\\\\\ud83d", 1.0, {"a": "\\uD83D"}]'],
)
def test_lone_surrogates_pass_as_they_are(value: bytes) -> None:
    data = b'{ "a" : ' + value + b' ,"b":{},"c\\ud800":[ ] }'
    members = read_members(data)
    assert bytes(members["a"]) == value
    assert bytes(members["b"]) == b"{}"
    assert join_members(members) == b'{"a":' + value + b',"b":{},"c\\ud800":[ ]}'


def test_an_escaped_backslash_does_not_make_a_surrogate() -> None:
    assert decode_as(ANY, rb'"\\ud800 \ud800"') == "\\ud800 �"


def test_a_pair_of_surrogates_is_a_character() -> None:
    assert decode_as(ANY, rb'"\ud83d\ude00 \ud83d"') == "😀 �"


class Shape(msgspec.Struct):
    name: str
    counts: list[int] | None = None


SHAPE = msgspec.json.Decoder(Shape)


@pytest.mark.parametrize(
    ("data", "path", "rule"),
    [
        (b"{}", "name", "is required"),
        (b'{"name":5}', "name", "expected string, got integer"),
        (b'{"name":"secret-value","counts":["secret-value"]}', "counts[0]", "expected integer, got string"),
        (b'{"name":"x","counts":{}}', "counts", "expected array or null, got object"),
        (b"[]", "", "expected object, got array"),
    ],
)
def test_a_wrong_type_is_told_by_path_and_rule(data: bytes, path: str, rule: str) -> None:
    with pytest.raises(Malformed) as caught:
        decode_as(SHAPE, data)
    assert (caught.value.path.replace("[...]", "[0]"), caught.value.rule) == (path, rule)
    assert "secret-value" not in str(caught.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        members = read_members(data)
    except Malformed:
        return
    assert json.loads(join_members(members)).keys() == members.keys()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
SURROGATES = st.text(alphabet=st.characters(categories=["Cs", "Lu"]), max_size=5)


@given(st.dictionaries(st.text() | SURROGATES, JSON | SURROGATES, max_size=5))
def test_any_object_survives(value: dict[str, object]) -> None:
    data = json.dumps(value).encode()
    assert json.loads(join_members(read_members(data))) == json.loads(data)
