"""Items, ids and refusals of the older dialect."""

import pytest

from aisix_admin.api.compat.envelope import (
    Collection,
    Misshapen,
    Missing,
    Taken,
    listed,
    misshapen,
    require_sane,
    unreadable,
)
from aisix_admin.body import parse_object
from aisix_admin.errors import Invalid
from aisix_admin.rows import Row
from aisix_common.errors import Problem
from aisix_common.resources import Flaw

KEYS = Collection("apikeys", "API key", "API key already exists")


def test_items_carry_the_revisions_of_what_was_read() -> None:
    row = Row("x", b"{}", 9, 4)
    assert KEYS.item("x", {"a": 1}, row) == {
        "key": "/apikeys/x",
        "value": {"a": 1},
        "created_index": 4,
        "modified_index": 9,
    }
    assert KEYS.item("x", {"a": 1}) == {"key": "/apikeys/x", "value": {"a": 1}}
    assert "created_index" not in KEYS.item("x", {}, Row("x", b"{}", 9)), "a file has no such thing"
    assert listed([{"key": "a"}, {"key": "b"}]) == {"total": 2, "list": [{"key": "a"}, {"key": "b"}]}
    assert KEYS.removed("x") == {"deleted": 1, "key": "/apikeys/x"}


def test_refusals_have_the_words_of_the_dialect() -> None:
    error = misshapen([Flaw(("key",), "must be a string"), Flaw((), "must be an object")])
    assert error.status == 400
    assert error.message == (
        'JSON schema validation error: property "/key" validation failed: must be a string\n'
        'property "/" validation failed: must be an object'
    )
    assert error.problems == (Problem("/key", "must be a string"), Problem("", "must be an object"))
    assert (Missing(KEYS, "x").status, Missing(KEYS, "x").message) == (404, "API key with ID x not found")
    assert (Taken(KEYS).status, Taken(KEYS).message) == (400, "API key already exists")
    assert len(Missing(KEYS, "x" * 9000).message) < 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "Invalid JSON: line 1 column 2: "),
        (b"\xff", "Invalid JSON: byte 0 "),
        (b'{"a": 1, "a": 2}', "Invalid JSON: the body is ambiguous"),
        (b"[]", 'JSON schema validation error: property "/" validation failed: '),
    ],
)
def test_what_is_no_json_object_is_told(body: bytes, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_object(body)
    told = unreadable(caught.value)
    assert told.message.startswith(message)
    assert isinstance(told, Misshapen) == (body == b"[]")


def test_ids_can_be_named_again() -> None:
    for id in ("a", "gpt-4", "x" * 128, "mit Leerzeichen", "schlüssel"):
        require_sane(id)
    for id in ("", "x" * 129, "a/b", "a\nb", " a", ".", ".."):
        with pytest.raises(Invalid):
            require_sane(id)
