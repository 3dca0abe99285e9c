"""What every kind names: the rows by id and by name, hard and soft, and what is no reference at all."""

from typing import Any

import pytest

from aisix_common.resources import BY_NAME, KINDS, Reference, check
from aisix_common.resources.reference import by_id, by_name

SEMANTIC = {
    "embedding_model": "e",
    "routes": [{"name": "n", "target": "t", "examples": ["x"]}, {"name": "n", "target": "t-*", "examples": ["x"]}],
    "default": "d",
    "match": {"threshold": 0.5},
    "on_embedding_failure": {"target": "f"},
}
ROUTE = {"name": "r", "path_prefix": "/x", "target_url": "https://a"}
ANONYMOUS = {"api_key_id": "k", "source_cidrs": ["::/0"], "servers": ["a", "b*", "c"]}


def hard_id(kind: str, *at: str | int, value: str) -> Reference:
    return Reference(at, kind, "id", value)


def hard_name(kind: str, *at: str | int, value: str) -> Reference:
    return Reference(at, kind, "name", value)


def soft(kind: str, *at: str | int, value: str) -> Reference:
    return Reference(at, kind, "name", value, hard=False)


TABLE: list[tuple[str, dict[str, Any], list[Reference]]] = [
    ("provider_keys", {"display_name": "x", "api_key": "s"}, []),
    (
        "models",
        {"display_name": "x", "provider": "p", "model_name": "m", "provider_key_id": "k"},
        [hard_id("provider_keys", "provider_key_id", value="k")],
    ),
    (
        "models",
        {"display_name": "x", "routing": {"targets": [{"model": "a"}, {"model": "a*"}, {"model": "b"}]}},
        [
            hard_name("models", "routing", "targets", 0, "model", value="a"),
            hard_name("models", "routing", "targets", 2, "model", value="b"),
        ],
    ),
    (
        "models",
        {"display_name": "x", "ensemble": {"panel": [{"model": "a"}], "judge": {"model": "j"}}},
        [
            hard_name("models", "ensemble", "panel", 0, "model", value="a"),
            hard_name("models", "ensemble", "judge", "model", value="j"),
        ],
    ),
    (
        "models",
        {"display_name": "x", "semantic": SEMANTIC},
        [
            hard_name("models", "semantic", "embedding_model", value="e"),
            hard_name("models", "semantic", "routes", 0, "target", value="t"),
            hard_name("models", "semantic", "default", value="d"),
            hard_name("models", "semantic", "on_embedding_failure", "target", value="f"),
        ],
    ),
    (
        "api_keys",
        {"key_hash": "h", "allowed_models": ["a", "*", "b"], "allowed_routes": ["r", "r*"], "jwt_provider": "idp"},
        [
            soft("models", "allowed_models", 0, value="a"),
            soft("models", "allowed_models", 2, value="b"),
            soft("passthrough_routes", "allowed_routes", 0, value="r"),
            soft("oidc_providers", "jwt_provider", value="idp"),
        ],
    ),
    ("api_keys", {"key_hash": "h", "allowed_models": [], "allowed_routes": None}, []),
    ("guardrails", {"name": "g", "kind": "pii"}, []),
    (
        "guardrail_attachments",
        {"guardrail_id": "g", "scope_type": "mcp_server", "scope_id": "s", "priority": 0},
        [hard_id("guardrails", "guardrail_id", value="g"), hard_id("mcp_servers", "scope_id", value="s")],
    ),
    *(
        (
            "guardrail_attachments",
            {"guardrail_id": "g", "scope_type": scope, "scope_id": given, "priority": 0},
            [hard_id("guardrails", "guardrail_id", value="g")],
        )
        for scope, given in [("env", "x"), ("team", "x"), ("model", ""), ("model", None)]
    ),
    (
        "cache_policies",
        {"name": "c", "applies_to": "model:m:1", "semantic": {"embedding_model": "e", "threshold": 1}},
        [
            hard_name("models", "applies_to", value="m:1"),
            hard_name("models", "semantic", "embedding_model", value="e"),
        ],
    ),
    ("cache_policies", {"name": "c", "applies_to": "api_key:k"}, [hard_id("api_keys", "applies_to", value="k")]),
    *(("cache_policies", {"name": "c", "applies_to": x}, []) for x in ("all", "model:", "model:a*", "api_key:", "x:y")),
    ("observability_exporters", {"name": "o", "kind": "otlp_http", "endpoint": "https://a"}, []),
    (
        "rate_limit_policies",
        {"name": "p", "scope": "model", "scope_ref": "m", "window": "day", "max_tokens": 1},
        [hard_id("models", "scope_ref", value="m")],
    ),
    (
        "rate_limit_policies",
        {"name": "p", "scope": "team", "scope_ref": "m", "window": "day", "max_tokens": 1},
        [],
    ),
    (
        "rate_limit_policies",
        {
            "name": "p",
            "limits": {"rpm": 1},
            "conditions": [
                {"dimension": "team", "operator": "==", "value": "t"},
                {
                    "logic": "or",
                    "children": [
                        {"dimension": "api_key", "operator": "in", "value": ["a", "b"]},
                        {"dimension": "model_name", "operator": "==", "value": "n"},
                        {"dimension": "model", "operator": "==", "value": "m"},
                    ],
                },
            ],
        },
        [
            hard_id("api_keys", "conditions", 1, "children", 0, "value", 0, value="a"),
            hard_id("api_keys", "conditions", 1, "children", 0, "value", 1, value="b"),
            hard_id("models", "conditions", 1, "children", 2, "value", value="m"),
        ],
    ),
    ("mcp_servers", {"name": "s", "url": "https://a"}, []),
    ("mcp_policies", {"scope": "env", "allow": ["a__b"]}, []),
    ("a2a_agents", {"name": "a", "url": "https://a"}, []),
    ("oidc_providers", {"name": "o", "issuer": "https://a", "audiences": ["x"]}, []),
    (
        "claim_mappings",
        {
            "name": "c",
            "jwt_provider": "idp",
            "match": [{"claim": "a", "op": "exact", "values": ["b"]}],
            "resolve": {"api_key_id": "k"},
        },
        [
            hard_name("oidc_providers", "jwt_provider", value="idp"),
            hard_id("api_keys", "resolve", "api_key_id", value="k"),
        ],
    ),
    (
        "passthrough_routes",
        {**ROUTE, "provider_key_id": "p", "auth_mode": "anonymous", "anonymous_key_id": "k", "source_cidrs": ["::/0"]},
        [hard_id("provider_keys", "provider_key_id", value="p"), hard_id("api_keys", "anonymous_key_id", value="k")],
    ),
    ("passthrough_routes", {**ROUTE, "credential_mode": "forward_client"}, []),
    (
        "mcp_auth_settings",
        {"anonymous": ANONYMOUS},
        [
            hard_id("api_keys", "anonymous", "api_key_id", value="k"),
            hard_name("mcp_servers", "anonymous", "servers", 0, value="a"),
            hard_name("mcp_servers", "anonymous", "servers", 2, value="c"),
        ],
    ),
    ("mcp_auth_settings", {}, []),
]


@pytest.mark.parametrize(("kind", "document", "expected"), TABLE, ids=[f"{row[0]}-{n}" for n, row in enumerate(TABLE)])
def test_what_a_row_names(kind: str, document: dict[str, Any], expected: list[Reference]) -> None:
    found = list(BY_NAME[kind].references(check(BY_NAME[kind], document)))
    assert found == expected
    for reference in found:
        assert _at(document, reference).removeprefix("model:").removeprefix("api_key:") == reference.value


def test_no_kind_was_forgotten() -> None:
    assert {kind.name for kind in KINDS} == {kind for kind, _, _ in TABLE}
    for _, _, expected in TABLE:
        assert all(reference.kind in BY_NAME for reference in expected)


def test_only_text_that_says_something_is_an_id() -> None:
    assert by_id("models", ("a",), None) == by_id("models", ("a",), "") == by_id("models", ("a",), 5) == []
    assert by_name("models", ("a",), ["", "*", "x*"]) == []


def _at(document: Any, reference: Reference) -> str:
    for part in reference.at:
        document = document[part]
    return str(document)
