"""What a kind says of its rows: names, labels, and what it is made of."""

from aisix_common.resources import (
    API_KEYS,
    GUARDRAILS,
    KINDS,
    MCP_AUTH_SETTINGS,
    MCP_POLICIES,
    MODELS,
    RATE_LIMIT_POLICIES,
    check,
)

POLICY = {"name": "p", "scope": "model", "scope_ref": "m", "window": "day", "max_tokens": 1}


def test_names_and_labels() -> None:
    key = check(API_KEYS, {"key_hash": "h", "allowed_models": [], "display_name": "ci"})
    assert (API_KEYS.name_of(key), API_KEYS.label_of(key)) == ("h", "ci")
    nobody = check(API_KEYS, {"key_hash": "h", "allowed_models": []})
    assert API_KEYS.label_of(nobody) is None
    policy = check(RATE_LIMIT_POLICIES, POLICY)
    assert (RATE_LIMIT_POLICIES.name_of(policy), RATE_LIMIT_POLICIES.label_of(policy)) == ("p", "p")


def test_rows_without_a_name() -> None:
    policy = check(MCP_POLICIES, {"scope": "env", "allow": []})
    assert (MCP_POLICIES.name_of(policy), MCP_POLICIES.label_of(policy)) == (None, None)


def test_a_singleton_has_the_name_of_its_kind() -> None:
    assert MCP_AUTH_SETTINGS.name_of(check(MCP_AUTH_SETTINGS, {})) == "mcp_auth_settings"
    assert [kind.name for kind in KINDS if kind.singleton] == ["mcp_auth_settings"]


def test_structs() -> None:
    assert (MODELS.type_name, len(MODELS.structs)) == ("Model", 1)
    assert (GUARDRAILS.type_name, len(GUARDRAILS.structs)) == ("Guardrail", 11)
    assert len({kind.type_name for kind in KINDS}) == len(KINDS)
