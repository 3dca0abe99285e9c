"""What OpenAI callers may send, and how answers and errors look; bodies of usual cases stand in tests/wire."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisix_proxy.canonical.answer import Answer, Told
from aisix_proxy.canonical.errors import BadRequest, GatewayError, Unauthenticated, UpstreamInBand, UpstreamStatus
from aisix_proxy.canonical.operation import Operation
from aisix_proxy.canonical.request import ROLES
from aisix_proxy.canonical.usage import Usage
from aisix_proxy.dialects.openai_chat import INVALID_BODY, NO_MESSAGES, OpenAIChat
from aisix_proxy.wire.members import Malformed, decode_as, read_members
from aisix_proxy.wire.openai_chat import CHAT_BODY, sound_chat

DIALECT = OpenAIChat()
SECRET = "do-not-echo"


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi"}]} | fields).encode()


def test_a_request_is_read() -> None:
    data = body(stream=True, stream_options={"include_usage": True}, n=3, x_unknown={"a": [1.0]})
    request = DIALECT.read(data)
    assert (request.operation, request.dialect, request.model) == (Operation.CHAT, "openai-chat", "m")
    assert (request.stream, request.include_usage, request.choices) == (True, True, 3)
    assert bytes(request.fields["x_unknown"]) == b'{"a": [1.0]}'
    assert request.body is data


@pytest.mark.parametrize("name", ["stream", "stream_options", "n", "temperature", "top_p", "max_tokens"])
def test_null_is_as_good_as_absent(name: str) -> None:
    request = DIALECT.read(body(**{name: None}))
    assert (request.stream, request.include_usage, request.choices) == (False, False, 1)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("content", ["x", None, [], [{"type": "text", "text": "x"}], ["odd"]])
def test_every_role_and_content(role: str, content: Any) -> None:
    [message] = DIALECT.messages(DIALECT.read(body(messages=[{"role": role, "content": content}])))
    assert message.role == role
    assert message.text in ("", "x")


def test_messages_keep_names_and_tools() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    sent = [
        {"role": "assistant", "tool_calls": [call, None]},
        {"role": "tool", "tool_call_id": "c", "content": "1", "name": "f"},
    ]
    first, second = DIALECT.messages(DIALECT.read(body(messages=sent)))
    assert list(first.tool_calls) == [call]
    assert (second.tool_call_id, second.name, second.text) == ("c", "f", "1")


def test_the_text_of_parts_is_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}, {"type": "text", "text": "b"}]
    [message] = DIALECT.messages(DIALECT.read(body(messages=[{"role": "user", "content": parts}])))
    assert message.text == "ab"


@pytest.mark.parametrize("name", ["org/model", "模型", "a\nb", "\ud800", "x" * 10_000, "__proto__", ""])
def test_any_name_of_a_model(name: str) -> None:
    assert DIALECT.read(body(model=name)).model == name.encode(errors="replace").decode().replace("?", "�")


def test_no_messages() -> None:
    with pytest.raises(BadRequest) as caught:
        DIALECT.read(body(messages=[]))
    assert (caught.value.message, caught.value.param, caught.value.status) == (NO_MESSAGES, "messages", 400)


@pytest.mark.parametrize(
    ("data", "param"),
    [
        (b"", None),
        (b"not json", None),
        (b"[]", None),
        (b'{"messages":[{"role":"user"}]}', "model"),
        (b'{"model":"m"}', "messages"),
        (body(model=5), "model"),
        (body(model=None), "model"),
        (body(messages=None), "messages"),
        (body(messages=SECRET), "messages"),
        (body(messages=[SECRET]), "messages[]"),
        (body(messages=[{"content": SECRET}]), "messages[].role"),
        (body(messages=[{"role": SECRET}]), "messages[0].role"),
        (body(messages=[{"role": "user", "content": 5}]), "messages[].content"),
        (body(messages=[{"role": "user", "content": {"text": SECRET}}]), "messages[].content"),
        (body(messages=[{"role": "user", "name": 5}]), "messages[].name"),
        (body(stream=SECRET), "stream"),
        (body(stream=1), "stream"),
        (body(stream_options=[]), "stream_options"),
        (body(stream_options={"include_usage": SECRET}), "stream_options.include_usage"),
        (body(n="2"), "n"),
        (body(n=-1), "n"),
        (body(temperature=SECRET), "temperature"),
        (body(top_p=[]), "top_p"),
        (body(max_tokens=1.5), "max_tokens"),
        (body(max_tokens=-1), "max_tokens"),
        (body()[:-1] + b',"temperature":NaN}', None),
        (body()[:-1] + b',"x":' + b"[" * 99_999 + b"]" * 99_999 + b"}", None),
    ],
)
def test_what_is_refused(data: bytes, param: str | None) -> None:
    with pytest.raises(BadRequest) as caught:
        DIALECT.read(data)
    assert caught.value.message.startswith(INVALID_BODY)
    assert (caught.value.param or "").replace("[0]", "[]") == (param or "").replace("[0]", "[]")
    assert SECRET not in caught.value.message


@given(st.binary(max_size=200) | st.binary(max_size=20).map(lambda b: body().replace(b"Hi", b)))
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    try:
        request = DIALECT.read(data)
    except BadRequest:
        return
    assert DIALECT.messages(request)


def test_our_usage_fills_the_gap_and_nothing_else() -> None:
    request = DIALECT.read(body(model="alias"))
    ours = Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3, estimated=True)
    for sent in (b'{"choices":[]}', b'{"choices":[],"usage":null}', b'{"choices":[],"usage":{"total_tokens":0}}'):
        answer = Answer(read_members(sent), None, Told)
        assert json.loads(DIALECT.answer(request, answer, ours)) == {
            "choices": [],
            "model": "alias",
            "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        }
    theirs = read_members(b'{"model":"x","choices":[],"usage":{"total_tokens":9,"x":1.50}}')
    counted = Usage(total_tokens=9)
    kept = DIALECT.answer(request, Answer(theirs, counted, Told), counted)
    assert kept == b'{"model":"alias","choices":[],"usage":{"total_tokens":9,"x":1.50}}'


@pytest.mark.parametrize(
    ("error", "members", "headers"),
    [
        (
            Unauthenticated("Invalid API key"),
            {"message": "Invalid API key", "type": "invalid_api_key", "code": "invalid_api_key"},
            {},
        ),
        (BadRequest("b", param="p"), {"message": "b", "type": "invalid_request_error", "param": "p"}, {}),
        (
            UpstreamStatus(429, "slow", retry_after=7),
            {"message": "slow", "type": "upstream_error"},
            {"Retry-After": "7"},
        ),
    ],
)
def test_errors(error: GatewayError, members: dict[str, str], headers: dict[str, str]) -> None:
    data, extra = DIALECT.error(error)
    assert json.loads(data) == {"error": members}
    assert extra == headers


def test_an_error_in_a_stream_is_an_event_without_an_end_marker() -> None:
    frame = DIALECT.stream_error(UpstreamInBand('broke "badly"\n'))
    assert frame == b'event: error\ndata: {"error":{"message":"broke \\"badly\\"\\n","type":"upstream_error"}}\n\n'


_MESSAGE: st.SearchStrategy[dict[str, object]] = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from([*ROLES, "robot"]),
        "content": st.sampled_from(["a", None, [], [{}], 1, {}]),
        "tool_calls": st.sampled_from([None, [], [{}], "x"]),
    },
)


@given(
    st.fixed_dictionaries(
        {"model": st.sampled_from(["m", "m", 1])},
        optional={
            "messages": st.lists(_MESSAGE, max_size=2),
            "n": st.sampled_from([None, 0, 2, -1, 1.5]),
            "max_tokens": st.sampled_from([None, 9, -9, "9"]),
            "stream": st.sampled_from([None, True, 1]),
        },
    )
)
def test_a_body_is_sound_when_no_rule_is_broken(sent: dict[str, object]) -> None:
    data = json.dumps(sent).encode()
    try:
        chat = decode_as(CHAT_BODY, data)
        broken = not chat.messages or any(message.role not in ROLES for message in chat.messages)
        broken = broken or any((number or 0) < 0 for number in (chat.n, chat.max_tokens))
    except Malformed:
        broken = True
    assert (sound_chat(data) is None) == broken
    if broken:
        with pytest.raises(BadRequest):
            DIALECT.read(data)
    else:
        DIALECT.read(data)
