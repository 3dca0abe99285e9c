"""One row in, one record out: targets, deadlines, overrides, and what cannot be served."""

from typing import Any

import pytest

from aisix_common.resources import Model, ProviderKey
from aisix_proxy.canonical.target import Target
from aisix_proxy.compiled_model import CompiledModel, Defaults, captured, compile_model, quoted, template_pieces

from tests.support.builders import Row, model, provider_key, snapshot_of


def record(model_row: Row, key_row: Row | None = None, defaults: Defaults | None = None) -> CompiledModel:
    snapshot = snapshot_of(model_row, *([key_row] if key_row else []))
    (entry,) = snapshot.table(Model).by_id.values()
    key = snapshot.table(ProviderKey).by_id.get("pk-1")
    return compile_model(entry, key, defaults or Defaults(6_000_000, 0))


def target(model_row: Row, key_row: Row | None = None, defaults: Defaults | None = None) -> Target:
    found = record(model_row, key_row or provider_key(), defaults).target
    assert found is not None
    return found


def test_a_target() -> None:
    found = target(model(retries=1), provider_key(api_base="https://api.openai.com", adapter="anthropic"))
    assert (found.wire, found.origin.host, found.base_path) == ("openai", "api.openai.com", "/v1")
    assert (found.provider_key_name, found.model_name, found.retries) == ("acme", "gpt-4o", 1)


def test_overrides() -> None:
    found = target(
        model(),
        provider_key(
            request={
                "param_renames": {"max_tokens": "max_completion_tokens"},
                "param_constraints": {"temperature_max": 1.0},
                "default_body_fields": {"user": {"a": [1]}},
                "default_headers": {"X-Who": "key ${request.api_key.id}!"},
                "forward_client_headers": [" X-Trace-* "],
            },
            response={"content_list_to_string": True, "reasoning_field": "thinking"},
            tls={"verify": False},
        ),
    )
    assert found.body.renames == {"max_tokens": "max_completion_tokens"}
    assert (found.body.temperature_min, found.body.temperature_max) == (None, 1.0)
    assert found.body.defaults == {"user": {"a": [1]}}
    assert found.body.flatten_content
    assert found.headers[0].pieces == (("key ", False), ("request.api_key.id", True), ("!", False))
    assert found.forward_headers == ("x-trace-*",)
    assert found.reasoning_field == "thinking"
    assert found.trust is not None
    assert not found.trust.verify


@pytest.mark.parametrize(
    ("fields", "defaults", "expected"),
    [
        ({}, (6000, 0), (6.0, 6.0)),
        ({}, (6000, 2000), (6.0, 2.0)),
        ({}, (0, 0), (None, None)),
        ({"timeout": 1000}, (6000, 2000), (1.0, 1.0)),
        ({"timeout": 0}, (6000, 2000), (None, None)),
        ({"timeout": 1000, "stream_timeout": 500}, (6000, 2000), (1.0, 0.5)),
        ({"stream_timeout": 0}, (6000, 2000), (6.0, 2.0)),
        ({"stream_timeout": 500}, (0, 0), (None, 0.5)),
    ],
)
def test_deadlines(fields: dict[str, Any], defaults: tuple[int, int], expected: tuple[Any, Any]) -> None:
    found = target(model(**fields), defaults=Defaults(*defaults))
    assert (found.timeout, found.stream_timeout) == expected


@pytest.mark.parametrize(
    ("fields", "awaits"), [({}, False), ({"stream_timeout": 0}, False), ({"stream_timeout": 9}, True)]
)
def test_only_a_budget_of_the_model_itself_awaits_the_first_chunk(fields: dict[str, Any], awaits: bool) -> None:
    assert record(model(**fields), provider_key()).awaits_first_chunk is awaits


PROBLEMS: list[tuple[Row, Row | None, int, str]] = [
    (model(), None, 400, "invalid_request_error"),
    (model(), provider_key(provider="acme"), 503, "provider_unavailable"),
    (model(), provider_key(provider="acme", adapter="bedrock"), 503, "provider_unavailable"),
    (model(), provider_key(provider="anthropic", adapter="openai"), 503, "provider_unavailable"),
    (model(), provider_key(provider="acme", adapter="openai", api_base=None), 400, "invalid_request_error"),
    (
        ("models", "r", {"display_name": "r", "routing": {"targets": [{"model": "m"}]}}),
        provider_key(),
        501,
        "not_supported",
    ),
]


@pytest.mark.parametrize(("model_row", "key_row", "status", "type"), PROBLEMS)
def test_what_cannot_be_served(model_row: Row, key_row: Row | None, status: int, type: str) -> None:
    found = record(model_row, key_row)
    assert found.target is None
    assert found.problem is not None
    error = found.problem.error()
    assert (error.status, error.type) == (status, type)
    assert found.problem.summary


def test_a_provider_key_that_is_out_of_service() -> None:
    (entry,) = snapshot_of(model()).table(Model).by_id.values()
    found = compile_model(entry, None, Defaults(0, 0), key_is_out=True).problem
    assert found is not None
    assert (found.status, found.type) == (503, "provider_unavailable")
    assert found.message == (
        'model "demo-model" cannot be served: its provider key is out of service;'
        " the gateway's /status/config tells why"
    )


@pytest.mark.parametrize("fields", [{"provider": "openai"}, {"provider": "", "adapter": "openai"}, {"provider": ""}])
def test_wires_that_are_spoken(fields: dict[str, str]) -> None:
    assert target(model(), provider_key(**fields)).wire == "openai"


def test_variables() -> None:
    found = record(model(), provider_key())
    assert found.variable("model", "name") == "demo-model"
    assert found.variable("provider_key", "id") == "pk-1"
    assert found.variable("provider_key", "secret") is None
    assert found.variable("nope", "id") is None


def test_a_capture_without_a_star_upstream_is_the_row_itself() -> None:
    found = record(model("w-*"), provider_key())
    assert captured(found, "x") is found


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", ()),
        ("plain", (("plain", False),)),
        ("${a}${b}", (("a", True), ("b", True))),
        ("x${}y", (("x", False), ("", True), ("y", False))),
        ("$a ${open", (("$a ${open", False),)),
    ],
)
def test_templates(text: str, pieces: tuple[tuple[str, bool], ...]) -> None:
    assert template_pieces(text) == pieces


def test_quoted() -> None:
    assert quoted('a"b\\c\n') == '"a\\"b\\\\c\\n"'
    assert len(quoted("x" * 10_000)) < 300
    assert quoted("\ud800")
