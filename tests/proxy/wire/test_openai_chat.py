"""The pieces of OpenAI's language: usage, texts, tool calls and errors, from providers that may send anything."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisix_common.secret import Secret
from aisix_proxy.canonical.errors import UpstreamError, UpstreamInBand, UpstreamProtocol
from aisix_proxy.canonical.usage import Usage
from aisix_proxy.wire.openai_chat import (
    MESSAGE_LIMIT,
    Delta,
    check_answer,
    produced_text,
    read_answer,
    read_error,
    read_usage,
    safe_text,
    tool_calls_of,
    write_usage,
)

SECRET = Secret("sk-upstream-secret")


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (None, None),
        ("12", None),
        ({}, None),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, None),
        ({"prompt_tokens": 3, "completion_tokens": 2}, Usage(3, 2, 5)),
        ({"prompt_tokens": 3.0, "completion_tokens": True, "total_tokens": "9"}, Usage(3, 0, 3)),
        ({"prompt_tokens": -3, "completion_tokens": 1 << 60, "total_tokens": 4}, Usage(0, 0, 4)),
        (
            {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 4}},
            Usage(9, 1, 10, cached_tokens=4),
        ),
        ({"prompt_tokens": 9, "prompt_cache_hit_tokens": 5, "prompt_tokens_details": None}, Usage(9, 0, 9, 5)),
        (
            {"total_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 2}},
            Usage(0, 0, 9, reasoning_tokens=2),
        ),
    ],
)
def test_usage(sent: object, read: Usage | None) -> None:
    assert read_usage(sent) == read
    assert check_answer(json.dumps({"choices": [], "usage": sent}).encode(), SECRET) == read


def test_our_own_usage_has_details_only_where_there_are_some() -> None:
    assert write_usage(Usage(1, 2, 3)) == b'{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}'
    assert b'"cached_tokens":1' in write_usage(Usage(1, 2, 3, cached_tokens=1))
    assert b'"reasoning_tokens":1' in write_usage(Usage(1, 2, 3, reasoning_tokens=1))


def test_everything_written_is_counted_once() -> None:
    delta = Delta(
        content=[{"type": "text", "text": "a"}, {"type": "x"}, "y"],
        reasoning="b",
        reasoning_content="b",
        refusal="c",
        tool_calls=[{"function": {"name": "d", "arguments": "e"}}, None, {"function": None}],
        function_call={"name": "f", "arguments": "g"},
    )
    assert sorted(produced_text(delta)) == list("abcdefg")


def test_tool_calls_without_an_index_are_numbered() -> None:
    assert [call.index for call in tool_calls_of(Delta(tool_calls=[{"index": 4}, {}, {"index": "x"}]))] == [4, 1, 2]


@pytest.mark.parametrize(
    ("error", "read"),
    [
        ("text", ("text", None, None)),
        (5, ("", None, None)),
        ({}, ("", None, None)),
        ({"message": 5, "code": True, "param": []}, ("", None, None)),
        ({"message": "m", "code": 404, "param": "p"}, ("m", "404", "p")),
        ({"message": "key sk-upstream-secret", "code": "sk-upstream-secret"}, ("key ***", "***", None)),
    ],
)
def test_errors(error: object, read: object) -> None:
    assert read_error(error, SECRET) == read


@given(st.text(), st.integers(0, MESSAGE_LIMIT + 10))
def test_a_safe_text_is_short_and_holds_no_credential(text: str, padding: int) -> None:
    safe = safe_text("x" * padding + SECRET.reveal() + text, SECRET)
    assert len(safe.encode()) <= MESSAGE_LIMIT
    assert SECRET.reveal() not in safe


@pytest.mark.parametrize(("code", "status"), [(429, 429), ("400", 400), (500, 502), (200, 502), ("x", 502)])
def test_the_status_of_an_error_in_a_stream(code: object, status: int) -> None:
    with pytest.raises(UpstreamInBand) as caught:
        read_answer(json.dumps({"error": {"message": "m", "code": code}}).encode(), SECRET)
    assert caught.value.status == status


@given(st.binary(max_size=100))
def test_any_bytes_are_an_answer_or_an_error(data: bytes) -> None:
    for read in (read_answer, check_answer):
        try:
            read(data, SECRET)
        except UpstreamError:
            pass


_ODD = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=2)
)
_COUNTS = st.dictionaries(
    st.sampled_from(["prompt_tokens", "completion_tokens", "total_tokens", "prompt_cache_hit_tokens"]),
    st.integers(0, 9) | _ODD,
)
_DETAILS = st.dictionaries(st.sampled_from(["cached_tokens", "reasoning_tokens"]), st.integers(0, 9) | _ODD) | _ODD
_USAGE = st.builds(
    lambda counts, details: counts | details,
    _COUNTS,
    st.dictionaries(st.sampled_from(["prompt_tokens_details", "completion_tokens_details"]), _DETAILS),
)
_CHOICE = st.dictionaries(st.sampled_from(["index", "delta", "message", "x"]), st.just({"content": "a"}) | _ODD) | _ODD
_ANSWER = st.fixed_dictionaries(
    {}, optional={"choices": st.lists(_CHOICE, max_size=2) | _ODD, "usage": _USAGE | _ODD, "error": _ODD}
)


@given(_ANSWER)
def test_the_quick_look_at_an_answer_sees_what_the_close_one_sees(answer: dict[str, object]) -> None:
    data = json.dumps(answer).encode()
    try:
        body = read_answer(data, SECRET)
        if body.choices is None:
            raise UpstreamProtocol("choices: is required")
    except UpstreamError as error:
        with pytest.raises(type(error), match=re.escape(str(error))):
            check_answer(data, SECRET)
    else:
        assert check_answer(data, SECRET) == read_usage(body.usage)
