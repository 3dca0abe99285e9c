"""Fields nobody here knows, from the stored document to the one that replaces it."""

import json
from typing import Any

import pytest

from aisix_admin.carried import carried
from aisix_common.resources import (
    API_KEYS,
    CACHE_POLICIES,
    GUARDRAILS,
    MODELS,
    PROVIDER_KEYS,
    RATE_LIMIT_POLICIES,
    Kind,
)


@pytest.mark.parametrize(
    ("kind", "stored", "written", "result"),
    [
        (MODELS, {"display_name": "a", "new": {"x": [1]}}, {"display_name": "b"}, {"new": {"x": [1]}}),
        (MODELS, {"timeout": 5}, {"display_name": "b"}, {}),
        (MODELS, {"new": 1}, {"new": 2}, {"new": 2}),
        (MODELS, {"new": 10**400}, {}, {"new": 10**400}),
        (
            MODELS,
            {"cost": {"input_per_1k": 1, "new": 1}},
            {"cost": {"input_per_1k": 2}},
            {"cost": {"input_per_1k": 2, "new": 1}},
        ),
        (MODELS, {"cost": {"input_per_1k": 1, "new": 1}}, {}, {}),
        (
            MODELS,
            {"routing": {"targets": [{"model": "a", "new": 1}], "new": 2}},
            {"routing": {"targets": [{"model": "b"}]}},
            {"routing": {"targets": [{"model": "b"}], "new": 2}},
        ),
        (
            MODELS,
            {"semantic": {"on_embedding_failure": {"target": "a", "new": 1}}},
            {"semantic": {"on_embedding_failure": {"target": "b"}}},
            {"semantic": {"on_embedding_failure": {"target": "b", "new": 1}}},
        ),
        (PROVIDER_KEYS, {"secret": "older spelling", "new": 1}, {"api_key": "k"}, {"api_key": "k", "new": 1}),
        (
            PROVIDER_KEYS,
            {"request": {"default_body_fields": {"user": {"a": 1}}}},
            {"request": {"default_body_fields": {"user": {}}}},
            {"request": {"default_body_fields": {"user": {}}}},
        ),
        (GUARDRAILS, {"kind": "pii", "new": 1}, {"kind": "pii", "name": "a"}, {"new": 1}),
        (GUARDRAILS, {"kind": "pii", "new": 1}, {"kind": "lakera", "name": "a"}, {}),
        (GUARDRAILS, {"kind": "pii", "patterns": []}, {"kind": "pii", "name": "a"}, {"patterns": []}),
        (
            GUARDRAILS,
            {"kind": "bedrock", "latency_mode": {"kind": "timed", "timeout_ms": 100, "new": 1}},
            {"kind": "bedrock", "latency_mode": {"kind": "timed", "timeout_ms": 200}},
            {"latency_mode": {"kind": "timed", "timeout_ms": 200, "new": 1}},
        ),
        (
            GUARDRAILS,
            {"kind": "bedrock", "latency_mode": {"kind": "timed", "timeout_ms": 100, "new": 1}},
            {"kind": "bedrock", "latency_mode": {"kind": "serial"}},
            {},
        ),
        (
            CACHE_POLICIES,
            {"new": 1, "semantic": {"threshold": 1, "new": 2}},
            {"name": "a", "semantic": {"threshold": 0.5}},
            {"new": 1, "semantic": {"threshold": 0.5, "new": 2}},
        ),
        (
            RATE_LIMIT_POLICIES,
            {"limits": {"rpm": 1, "tph": 1}, "conditions": [{"new": 1}]},
            {"limits": {"rpm": 2}, "conditions": [{}]},
            {"limits": {"rpm": 2, "tph": 1}},
        ),
        (
            API_KEYS,
            {"mcp_access": {"mode": "x", "new": 1}, "mcp_rate_limits": {"a": {"new": 1}, "b": {"new": 1}}},
            {"mcp_access": {"allow": []}, "mcp_rate_limits": {"a": {"rpm": 1}}},
            {"mcp_access": {"allow": [], "new": 1}, "mcp_rate_limits": {"a": {"rpm": 1, "new": 1}}},
        ),
    ],
)
def test_what_is_carried(
    kind: Kind[Any], stored: dict[str, Any], written: dict[str, Any], result: dict[str, Any]
) -> None:
    joined = carried(kind, json.dumps(stored).encode(), written)
    assert joined == {**written, **result}
