"""The facts of a row, from its bytes and from its value."""

import json
from typing import Any

import pytest

from aisix_admin.facts import NOTHING, FactReader, Facts, facts_of, may_refer
from aisix_common.resources import ALL_KINDS, API_KEYS, BY_NAME, MODELS, PROVIDER_KEYS, Kind, check

ROUTER = {"display_name": "r", "routing": {"targets": [{"model": "a"}, {"model": "b"}, {"model": "a"}]}}
DIRECT = {"display_name": "d", "provider": "openai", "model_name": "m", "provider_key_id": "pk"}
SETTINGS = "mcp_auth_settings"


@pytest.mark.parametrize(
    ("kind", "document", "facts"),
    [
        ("models", ROUTER, Facts("r", None, (("models", "name", "a"), ("models", "name", "b")))),
        ("models", DIRECT, Facts("d", None, (("provider_keys", "id", "pk"),))),
        ("models", {**DIRECT, "new": 1}, Facts("d", None, (("provider_keys", "id", "pk"),))),
        ("models", {"display_name": "half"}, Facts("half")),
        ("models", {"routing": 1}, NOTHING),
        ("provider_keys", {"display_name": "p", "secret": "s"}, Facts("p")),
        ("mcp_servers", {"display_name": "older"}, Facts("older")),
        ("mcp_servers", {"display_name": "older", "name": "both"}, Facts("both")),
        ("api_keys", {"key_hash": "h", "display_name": "alice", "allowed_models": ["r"]}, Facts("h", "alice")),
        ("api_keys", {"key_hash": "h"}, Facts("h", "")),
        ("api_keys", {"key_hash": "h", "display_name": 5}, Facts("h", "")),
        (SETTINGS, {}, Facts(SETTINGS)),
        ("mcp_policies", {"name": "no name of a kind without names"}, NOTHING),
    ],
)
def test_the_facts_of_stored_bytes(kind: str, document: dict[str, Any], facts: Facts) -> None:
    assert FactReader(ALL_KINDS)(kind, json.dumps(document).encode()) == facts


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        (MODELS, ROUTER),
        (MODELS, DIRECT),
        (PROVIDER_KEYS, {"display_name": "p", "api_key": "s"}),
        (API_KEYS, {"key_hash": "h" * 64, "allowed_models": ["r"], "display_name": "alice"}),
        (API_KEYS, {"key_hash": "h" * 64, "allowed_models": ["r"]}),
        (
            BY_NAME["claim_mappings"],
            {
                "name": "c",
                "jwt_provider": "i",
                "match": [{"claim": "x", "op": "exact", "values": ["y"]}],
                "resolve": {"api_key_id": "k"},
            },
        ),
    ],
)
def test_typed_and_stored_agree(kind: Kind[Any], document: dict[str, Any]) -> None:
    assert facts_of(kind, check(kind, document)) == FactReader(ALL_KINDS)(kind.name, json.dumps(document).encode())


def test_people_see_the_label() -> None:
    assert (
        Facts("hash", "").called == "" and Facts("hash", "alice").called == "alice" and Facts("name").called == "name"
    )


VAULT = {"manager": "vault", "name": "main", "uri": "https://vault.example", "auth": {"method": "token", "token": "t"}}
MAIN = ("secret_providers", "name", "vault/main")
REFERENCE = "$secret://vault/main/kv/key"


@pytest.mark.parametrize(
    ("kind", "document", "facts"),
    [
        ("secret_providers", VAULT, Facts("vault/main", "main")),
        ("secret_providers", {"name": "half"}, Facts(None, "half")),
        ("provider_keys", {"display_name": "p", "api_key": REFERENCE}, Facts("p", None, (MAIN,))),
        ("provider_keys", {"display_name": "p", "api_key": "$env://AISIX_SECRET_A"}, Facts("p")),
        (
            "provider_keys",
            {
                "display_name": "p",
                "api_key": "$SECRET://aws/other/a/b",
                "request": {
                    "default_headers": {"x": REFERENCE, "y": REFERENCE},
                    "default_body_fields": {"z": REFERENCE},
                },
            },
            Facts("p", None, (("secret_providers", "name", "aws/other"), MAIN)),
        ),
        ("api_keys", {"key_hash": REFERENCE, "allowed_models": []}, Facts(REFERENCE, "", (MAIN,))),
        ("api_keys", {"key_hash": "$secret://vault", "allowed_models": []}, Facts("$secret://vault", "")),
        ("api_keys", {"key_hash": "$plain", "allowed_models": []}, Facts("$plain", "")),
        ("models", {**DIRECT, "display_name": REFERENCE}, Facts(REFERENCE, None, (("provider_keys", "id", "pk"),))),
    ],
)
def test_references_to_secrets_point_at_their_provider(kind: str, document: dict[str, Any], facts: Facts) -> None:
    raw = json.dumps(document).encode()
    assert FactReader(ALL_KINDS)(kind, raw) == facts
    assert FactReader(ALL_KINDS)(kind, raw.replace(b"$", b"\\u0024")) == facts, "as other writers may spell it"
    if "half" not in raw.decode():
        assert facts_of(BY_NAME[kind], check(BY_NAME[kind], document)) == facts


def test_which_kinds_may_hold_a_reference() -> None:
    assert {kind.name for kind in ALL_KINDS if may_refer(kind)} == {
        *("provider_keys", "api_keys", "guardrails", "observability_exporters"),
        *("mcp_servers", "a2a_agents", "secret_providers"),
    }
