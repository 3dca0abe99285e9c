"""Requests to an OpenAI-compatible provider; bodies and answers stand in tests/wire."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisix_common.secret import Secret
from aisix_proxy.canonical.errors import Misconfigured, UpstreamError
from aisix_proxy.canonical.http import Origin, TlsTrust, UpstreamResponse
from aisix_proxy.canonical.request import Request
from aisix_proxy.canonical.target import BodyOverrides, HeaderTemplate
from aisix_proxy.dialects.openai_chat import OpenAIChat
from aisix_proxy.providers.openai import OpenAI

from tests.wire.cases import CREDENTIAL, Context, make_target

ADAPTER = OpenAI()
MESSAGES: list[Any] = [{"role": "user", "content": "Hi"}]


def request(**fields: Any) -> Request:
    return OpenAIChat().read(json.dumps({"model": "alias", "messages": MESSAGES} | fields).encode())


def test_where_and_how() -> None:
    trust = TlsTrust(verify=False)
    sent = ADAPTER.encode(request(), make_target(base_path="/x/v1", trust=trust), Context())
    assert (sent.origin, sent.method, sent.path) == (
        Origin("https", "api.openai.com", 443),
        "POST",
        "/x/v1/chat/completions",
    )
    assert sent.trust is trust
    assert sent.headers == (
        ("Authorization", f"Bearer {CREDENTIAL}"),
        ("Content-Type", "application/json"),
        ("User-Agent", "aisix/0.1"),
        ("x-aisix-request-id", Context.request_id),
    )


def test_a_stream_says_what_it_accepts() -> None:
    assert ("Accept", "text/event-stream") in ADAPTER.encode(request(stream=True), make_target(), Context()).headers


def test_operators_headers_come_after_ours_and_replace_none() -> None:
    target = make_target(
        headers=[HeaderTemplate("X-Org", (("o", False),)), HeaderTemplate("User-Agent", (("evil", False),))],
        forward_headers=["x-*", "authorization", "user-agent"],
    )
    context = Context({"X-Org": "c", "X-Beta": "b", "Authorization": "Bearer caller", "User-Agent": "caller"})
    sent = ADAPTER.encode(request(), target, context)
    assert sent.headers[4:] == (("X-Org", "o"), ("X-Beta", "b"))
    assert "caller" not in repr(sent.headers)


@pytest.mark.parametrize("credential", ["", " ", "a\r\nX-Evil: 1", "a\n", " a", "a ", "schlüssel", "a\x00"])
def test_a_credential_that_cannot_stand_in_a_header(credential: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        ADAPTER.encode(request(), make_target(credential=Secret(credential)), Context())
    assert (caught.value.status, caught.value.type) == (401, "authentication_error")
    assert caught.value.message.startswith("invalid upstream credentials: ")


def test_every_member_keeps_its_own_bytes() -> None:
    same = request(model="gpt-4o-2024-08-06")
    sent = ADAPTER.encode(same, make_target(), Context()).body
    assert sent == b'{"model":"gpt-4o-2024-08-06","messages":%b}' % bytes(same.fields["messages"])


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"evil","model":"alias","messages":[{"role":"user"}]}',
        b'{"\\u006dodel":"evil","model":"alias","messages":[{"role":"user"}]}',
        b'{"model":"evil","mo\\u0064el":"alias","messages":[{"role":"user"}]}',
        b'{"model":"evil","\\u006D\\u006F\\u0064\\u0065\\u006C":"alias","messages":[{"role":"user"}]}',
    ],
)
def test_a_provider_never_sees_a_second_model(body: bytes) -> None:
    sent = ADAPTER.encode(OpenAIChat().read(body), make_target(), Context()).body
    pairs = json.loads(sent, object_pairs_hook=list)
    assert [value for name, value in pairs if name == "model"] == ["gpt-4o-2024-08-06"]


NAMES = st.sampled_from(["model", "messages", "stream", "x", "metadata"]) | st.text(max_size=6)
VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=8) | st.just("model"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(st.sampled_from(["x", "user", "metadata", 'm"odel']), VALUES),
    st.text(min_size=1),
    st.text(min_size=1),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, " ", "\n  "]),
)
def test_only_the_model_and_the_stream_options_change(
    extra: dict[str, Any], alias: str, model_name: str, stream: bool, override: bool, indent: str | None
) -> None:
    body = extra | {"model": alias, "stream": stream, "messages": MESSAGES}
    read = OpenAIChat().read(json.dumps(body, ensure_ascii=False, indent=indent).encode())
    target = make_target(model_name=model_name, body=BodyOverrides(defaults={"x": 1} if override else {}))
    expected = body | {"model": model_name}
    if stream:
        expected["stream_options"] = {"include_usage": True}
    if override:
        expected.setdefault("x", 1)
    assert json.loads(ADAPTER.encode(read, target, Context()).body) == expected


@given(st.binary(), st.integers(200, 599), st.text())
def test_any_answer_is_read_or_an_upstream_error(body: bytes, status: int, retry_after: str) -> None:
    response = UpstreamResponse(status, {"retry-after": retry_after}, body)
    error = ADAPTER.error(response, make_target())
    assert error.message
    try:
        ADAPTER.answer(request(), response, make_target())
    except UpstreamError:
        pass
