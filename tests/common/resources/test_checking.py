"""The strict check beyond the table: all problems at once, in words that help."""

import pytest

from aisix_common.errors import Problem
from aisix_common.resources import API_KEYS, MODELS, PROVIDER_KEYS, Refused, check


def test_all_problems_at_once() -> None:
    with pytest.raises(Refused) as refused:
        check(API_KEYS, {"key_hash": "", "allowed_models": ["a", 1], "rate_limit": {"rpm": -1}, "nope": 1})
    assert refused.value.problems == [
        Problem("key_hash", "value is shorter than 1 character"),
        Problem("allowed_models[1]", 'value is not of type "string"'),
        Problem("rate_limit.rpm", "value is less than the minimum of 0"),
        Problem("nope", "unknown field"),
    ]
    assert str(refused.value) == "schema validation failed at `/key_hash`: value is shorter than 1 character"


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (
            {"routing": {"targets": [{"model": "a"}]}, "retries": 1, "cost": {"input_per_1k": 0, "output_per_1k": 0}},
            "`retries`, `cost` not accepted on a model group",
        ),
        (
            {"ensemble": {"panel": [{"model": "a"}], "judge": {"model": "b"}}, "timeout": 1},
            "`timeout` not accepted on an ensemble",
        ),
    ],
)
def test_dead_knobs_are_named(row: dict[str, object], text: str) -> None:
    with pytest.raises(Refused) as refused:
        check(MODELS, {"display_name": "x", **row})
    assert [flaw.reason for flaw in refused.value.flaws] == [text]


def test_missing_parts_of_a_direct_model_are_all_named() -> None:
    with pytest.raises(Refused) as refused:
        check(MODELS, {"display_name": "x", "provider": "openai"})
    assert [problem.reason for problem in refused.value.problems] == [
        '"model_name" is a required property of a direct model',
        '"provider_key_id" is a required property of a direct model',
    ]


def test_the_result_is_normalised() -> None:
    value = check(PROVIDER_KEYS, {"display_name": "x", "secret": "s", "strip_headers": [" X-A", "x-a", "", "Cookie"]})
    assert value.api_key.reveal() == "s"
    assert value.strip_headers == ("x-a", "cookie")


def test_the_document_given_is_left_alone() -> None:
    document = {"display_name": "x", "secret": "s", "strip_headers": ["B"]}
    check(PROVIDER_KEYS, document)
    assert document == {"display_name": "x", "secret": "s", "strip_headers": ["B"]}


@pytest.mark.parametrize(
    ("more", "at"),
    [
        ({"api_key": " $secret://vault/a/b"}, "api_key"),
        ({"request": {"default_headers": {"x": "Bearer $ENV://A"}}}, "request.default_headers.x"),
        ({"request": {"default_body_fields": {"x": "see $env://A"}}}, "request.default_body_fields.x"),
        ({"request": {"default_body_fields": {"x": {"y": ["$secret://vault/a/b"]}}}}, "request.default_body_fields.x"),
        ({"request": {"default_body_fields": {"x": {"$env://A": 1}}}}, "request.default_body_fields.x"),
    ],
)
def test_a_reference_is_all_of_a_value(more: dict[str, object], at: str) -> None:
    with pytest.raises(Refused) as refused:
        check(PROVIDER_KEYS, {"display_name": "p", "api_key": "k", **more})
    assert [problem.path for problem in refused.value.problems] == [at]
    assert "as a part of it" in str(refused.value)


def test_whole_references_pass() -> None:
    fields = {"x": "$secret://vault/a/b", "y": {"z": "$secret: //", "env": "env://"}}
    request = {"default_headers": {"x": "$env://A/k $env://B"}, "default_body_fields": fields}
    assert check(PROVIDER_KEYS, {"display_name": "p", "api_key": "$ENV://A", "request": request}).request is not None
