"""What operators change about a call, and what they cannot."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisix_proxy.canonical.target import BodyOverrides, HeaderTemplate
from aisix_proxy.providers.overrides import NEVER_FORWARDED, NEVER_SET, change_body, extra_headers, may_forward
from aisix_proxy.wire.members import join_members, read_members

from tests.wire.cases import Context


def changed(body: bytes, **overrides: Any) -> bytes:
    return join_members(change_body(read_members(body), BodyOverrides(**overrides)))


@pytest.mark.parametrize(
    ("body", "overrides", "result"),
    [
        (b'{"a":1,"b":2}', {"renames": {"a": "b"}}, b'{"b":1}'),
        (b'{"c":1}', {"renames": {"a": "b"}}, b'{"c":1}'),
        (b'{"temperature":1.90}', {"temperature_max": 1.0}, b'{"temperature":1.0}'),
        (b'{"temperature":0}', {"temperature_min": 0.1}, b'{"temperature":0.1}'),
        (b'{"temperature":0.50}', {"temperature_min": 0.1, "temperature_max": 1.0}, b'{"temperature":0.50}'),
        (b'{"temperature":null}', {"temperature_max": 1.0}, b'{"temperature":null}'),
        (b"{}", {"temperature_max": 1.0}, b"{}"),
        (b'{"a":1}', {"defaults": {"a": 2, "b": [None]}}, b'{"a":1,"b":[null]}'),
        (b"{}", {"defaults": {"stream": True}}, b"{}"),
        (b'{"a":1.5}', {"renames": {"a": "temperature"}, "temperature_max": 1.0}, b'{"temperature":1.0}'),
        (b'{"a":1}', {"renames": {"a": "b"}, "defaults": {"a": 3, "b": 2}}, b'{"b":1,"a":3}'),
    ],
)
def test_body(body: bytes, overrides: dict[str, Any], result: bytes) -> None:
    assert changed(body, **overrides) == result


@pytest.mark.parametrize(
    ("content", "flat"),
    [
        (b'[{"type":"text","text":"a"},{"type":"text","text":"b"}]', b'"ab"'),
        (b"[]", b'""'),
        (b'"x"', b'"x"'),
        (b"null", b"null"),
        (
            b'[{"type":"text","text":"a"},{"type":"image_url","image_url":{}}]',
            b'[{"type":"text","text":"a"},{"type":"image_url","image_url":{}}]',
        ),
    ],
)
def test_flatten(content: bytes, flat: bytes) -> None:
    body = b'{"messages":[{"role":"user","content":%s}]}'
    assert changed(body % content, flatten_content=True) == body % flat


def template(name: str, *pieces: tuple[str, bool]) -> HeaderTemplate:
    return HeaderTemplate(name, pieces)


def test_templates_are_filled() -> None:
    context = Context(variables={"request.id": "r1", "model.name": "m"})
    headers = extra_headers(
        [
            template("X-Trace", ("id=", False), ("request.id", True), (";", False), ("model.name", True)),
            template("X-Missing", ("a", False), ("request.api_key.team_id", True)),
            template("X-Line", ("a\r\nX-Evil: 1", False)),
            template("X Bad", ("a", False)),
        ],
        [],
        context,
        [],
    )
    assert headers == [("X-Trace", "id=r1;m")]


@pytest.mark.parametrize("name", [*sorted(NEVER_SET), "Content-Length", "Transfer-Encoding", "X-Taken"])
def test_what_no_template_may_set(name: str) -> None:
    assert extra_headers([template(name, ("x", False))], [], Context(), ["x-taken"]) == []


def test_patterns_let_pass() -> None:
    caller = {"X-Org": "1", "X-Org-Unit": "2", "x-end-tag": "3", "other": "4", "X-Stainless-Lang": "py"}
    assert extra_headers([], ["x-org", "x-*-tag"], Context(caller), []) == [("X-Org", "1"), ("x-end-tag", "3")]
    assert [name for name, _ in extra_headers([], ["*"], Context(caller), [])] == [
        "X-Org",
        "X-Org-Unit",
        "x-end-tag",
        "other",
    ]


def test_an_operators_header_beats_the_callers() -> None:
    context = Context({"X-Org": "caller"})
    assert extra_headers([template("x-org", ("ours", False))], ["*"], context, []) == [("x-org", "ours")]


@pytest.mark.parametrize("name", [*sorted(NEVER_FORWARDED), "x-aisix-request-id", "x-stainless-os"])
def test_never_forwarded(name: str) -> None:
    assert not may_forward(name)
    assert extra_headers([], ["*"], Context({name.title(): "v"}), []) == []


@given(st.text(), st.text())
def test_no_header_of_a_caller_breaks_a_line(name: str, value: str) -> None:
    for header, text in extra_headers([], ["*"], Context({name: value}), []):
        assert not set(header + text) & set("\r\n\0")


@given(st.dictionaries(st.text(), st.integers() | st.text()))
def test_no_overrides_change_nothing(body: dict[str, Any]) -> None:
    data = msgspec.json.encode(body)
    assert changed(data) == data
