"""A copy of the thinking under `reasoning_content`, wherever the provider keeps it."""

import json

import pytest

from aisix_proxy.wire.members import Malformed, join_members, read_members
from aisix_proxy.wire.openai_reasoning import REASONING, reasoning_path, show_reasoning


def shown(delta: object, field: str = "") -> object:
    members = read_members(json.dumps({"choices": [{"delta": delta}]}).encode())
    show_reasoning(members, "delta", reasoning_path(field))
    return json.loads(join_members(members))["choices"][0]["delta"]


def test_the_usual_place() -> None:
    assert reasoning_path("") == REASONING
    assert shown({"reasoning": "Hm"}) == {"reasoning": "Hm", "reasoning_content": "Hm"}


def test_a_configured_place() -> None:
    assert shown({"a": {"b": "Hm"}}, "a.b") == {"a": {"b": "Hm"}, "reasoning_content": "Hm"}


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning": None},
        {"reasoning": ""},
        {"reasoning": ["x"]},
        {"reasoning": "Hm", "reasoning_content": "Own"},
        {"content": "reasoning"},
        {},
        None,
    ],
)
def test_nothing_to_copy(delta: object) -> None:
    assert shown(delta) == delta


@pytest.mark.parametrize("thought", [rb"\ud83d", rb"so \ud83d\ude00", rb"\u00e9 \n", "é".encode()])
def test_the_copy_and_the_original_have_the_bytes_that_came(thought: bytes) -> None:
    for choices, field in (
        (b'[ { "index": 0, "delta" : {"reasoning": "%b", "n": 1e999} }, {"delta":{}}]', ""),
        (b'[{"delta": {"a": { "b" : "%b" } } } ]', "a.b"),
    ):
        members = read_members(b'{"choices": %b}' % (choices % thought))
        show_reasoning(members, "delta", reasoning_path(field))
        out = bytes(members["choices"])
        assert out.count(b'"%b"' % thought) == 2
        assert b'"reasoning_content":"%b"' % thought in out
        assert json.loads(out.replace(thought, b"x"))[0]["delta"]["reasoning_content"] == "x"


def test_untouched_bytes_where_there_is_nothing() -> None:
    members = read_members(b'{"choices":[ {"delta": {"content": "reasoning" } } ]}')
    before = bytes(members["choices"])
    show_reasoning(members, "delta", REASONING)
    assert bytes(members["choices"]) == before


def test_unreadable_choices() -> None:
    with pytest.raises(Malformed):
        show_reasoning(read_members(b'{"choices":{"reasoning":1}}'), "delta", REASONING)
