"""Rows to a file and back: what is written loads and means the same, or the export says why not."""

import json
from typing import Any

import pytest

from aisix_common.files.export import Export, export
from aisix_common.files.layout import COLLECTIONS, row_id
from aisix_common.files.loader import load
from aisix_common.resources import BY_NAME, Loaded, document, hash_key, read
from aisix_common.secrets.envelope import NO_KEYRING, Keyring
from aisix_common.secrets.rows import context
from aisix_common.store.types import KeyValue

CANARY = "sk-canary-${X} $$"
HASH = hash_key("sk-1")

PROVIDER = {
    "display_name": "open-ai",
    "api_key": CANARY,
    "provider": "openai",
    "request": {
        "default_headers": {"x-a": "${request.id} canary", "empty": ""},
        "default_body_fields": {"n": 1, "deep": {"t": ["canary", None, True]}},
    },
}
MODEL = {"display_name": "gpt", "provider": "openai", "model_name": "$gpt", "provider_key_id": "p1"}
KEY = {"display_name": "me", "key_hash": HASH, "allowed_models": ["gpt", "g*"]}

ROWS: dict[str, Any] = {
    "provider_keys/p1": PROVIDER,
    "models/m1": MODEL,
    "models/m2": {"display_name": "group", "routing": {"targets": [{"model": "gpt"}]}},
    "api_keys/k1": KEY,
    "api_keys/k2": {"key_hash": hash_key("sk-2"), "allowed_models": []},
    "guardrails/g1": {"name": "words", "kind": "keyword", "patterns": [{"kind": "literal", "value": "a\nb"}]},
    "guardrails/g2": {"name": "lakera", "kind": "lakera", "api_key": "canary"},
    "guardrails/g3": {"name": "off", "kind": "keyword", "patterns": []},
    "guardrail_attachments/a1": {"guardrail_id": "g2", "scope_type": "env", "priority": 0},
    "guardrail_attachments/a2": {"guardrail_id": "g2", "scope_type": "model", "scope_id": "m1", "priority": 0},
    "guardrail_attachments/a3": {"guardrail_id": "g3", "scope_type": "env", "priority": 9, "enabled": False},
    "cache_policies/c1": {"name": "mine", "applies_to": "api_key:k1"},
    "cache_policies/c2": {"name": "nobodys", "applies_to": "api_key:gone"},
    "observability_exporters/e1": {
        "name": "otlp",
        "kind": "otlp_http",
        "endpoint": "https://x",
        "headers": {"Authorization": "canary"},
    },
    "rate_limit_policies/r1": {
        "name": "classic",
        "scope": "model",
        "scope_ref": "m1",
        "window": "minute",
        "max_requests": 1,
    },
    "rate_limit_policies/r2": {
        "name": "conditional",
        "limits": {"rpm": 1},
        "conditions": [
            {"dimension": "team", "operator": "==", "value": "m1"},
            {"logic": "or", "children": [{"dimension": "api_key", "operator": "in", "value": ["k1", "k2"]}]},
            {"dimension": "model", "operator": "==", "value": "m2"},
        ],
    },
    "mcp_servers/s1": {"display_name": "tools", "url": "http://x", "auth_type": "bearer", "secret": "canary"},
    "a2a_agents/x1": {"name": "agent", "url": "http://x", "auth_type": "bearer", "secret": "canary"},
    "oidc_providers/o1": {"name": "idp", "issuer": "https://i", "audiences": ["a"]},
    "claim_mappings/cm": {
        "name": "map",
        "jwt_provider": "idp",
        "match": [{"claim": "a", "op": "exact", "values": ["b"]}],
        "resolve": {"api_key_id": "k1"},
    },
    "passthrough_routes/pr": {
        "name": "raw",
        "path_prefix": "/raw",
        "target_url": "https://x",
        "auth_mode": "anonymous",
        "anonymous_key_id": "k1",
        "source_cidrs": ["10.0.0.0/8"],
        "provider_key_id": "p1",
    },
    "mcp_auth_settings/env-uuid": {
        "anonymous": {"api_key_id": "k2", "source_cidrs": ["10.0.0.0/8"], "servers": ["tools"]}
    },
}


def exported(rows: dict[str, Any], *, reveal: bool = False, keyring: Keyring = NO_KEYRING) -> Export:
    made = [
        KeyValue(f"/aisix/{key}", value if isinstance(value, bytes) else json.dumps(value).encode(), 1, 1)
        for key, value in rows.items()
    ]
    return export(made, "/aisix", reveal=reveal, keyring=keyring)


def told(made: Export) -> str:
    return " ".join([*made.rejected, *made.blocking, *made.notes, *made.placeholders])


def clear(kind: str, value: Any) -> dict[str, Any]:
    """A row as it is meant."""
    outcome = read(BY_NAME[kind], json.dumps(value).encode())
    assert isinstance(outcome, Loaded)
    return document(BY_NAME[kind], outcome.value)


def test_there_and_back() -> None:
    made = exported(ROWS)
    assert made.sound, told(made)
    assert "canary" not in made.text + told(made)
    assert made.text.startswith('---\n_format_version: "1"\nprovider_keys:\n- display_name: open-ai\n')
    assert list(made.counts) == list(COLLECTIONS)
    environ = {name: f"value of {name}" for name in made.placeholders}
    rows = {f"{row.kind}/{row.id}": json.loads(row.raw) for row in load(made.text.encode(), "r", environ).rows}

    key, other = row_id("api_keys", "me"), row_id("api_keys", f"apikey-{hash_key('sk-2')[:16]}")
    model, group = row_id("models", "gpt"), row_id("models", "group")
    provider = row_id("provider_keys", "open-ai")
    expected = {
        f"models/{model}": {**clear("models", MODEL), "provider_key_id": provider},
        f"models/{group}": clear("models", ROWS["models/m2"]),
        f"api_keys/{key}": clear("api_keys", KEY),
        f"guardrails/{row_id('guardrails', 'words')}": clear("guardrails", ROWS["guardrails/g1"]),
        f"guardrails/{row_id('guardrails', 'off')}": clear("guardrails", {**ROWS["guardrails/g3"], "enabled": False}),
    }
    assert {name: rows[name] for name in expected} == expected
    assert rows[f"cache_policies/{row_id('cache_policies', 'mine')}"]["applies_to"] == f"api_key:{key}"
    assert rows[f"rate_limit_policies/{row_id('rate_limit_policies', 'classic')}"]["scope_ref"] == model
    conditions = rows[f"rate_limit_policies/{row_id('rate_limit_policies', 'conditional')}"]["conditions"]
    assert conditions[0]["value"] == "m1"
    assert conditions[1]["children"][0]["value"] == [key, other]
    assert conditions[2]["value"] == group
    assert rows[f"claim_mappings/{row_id('claim_mappings', 'map')}"]["resolve"] == {"api_key_id": key}
    route = rows[f"passthrough_routes/{row_id('passthrough_routes', 'raw')}"]
    assert (route["provider_key_id"], route["anonymous_key_id"]) == (provider, key)
    settings = rows[f"mcp_auth_settings/{row_id('mcp_auth_settings', 'mcp_auth_settings')}"]
    assert settings["anonymous"]["api_key_id"] == other
    request = rows[f"provider_keys/{provider}"]["request"]
    assert request["default_body_fields"]["n"] == 1
    assert request["default_body_fields"]["deep"]["t"][1:] == [None, True]
    assert request["default_headers"]["empty"] == ""
    assert {
        "AISIXSECRET_PROVIDER_KEY_OPEN_AI_API_KEY",
        "AISIXSECRET_GUARDRAIL_LAKERA_API_KEY",
        "AISIXSECRET_MCP_SERVER_TOOLS_SECRET",
        "AISIXSECRET_A2A_AGENT_AGENT_SECRET",
        "AISIXSECRET_OBSERVABILITY_EXPORTER_OTLP_HEADERS_AUTHORIZATION",
    } <= set(made.placeholders)


def test_revealed_secrets_read_back_as_they_were() -> None:
    made = exported(ROWS, reveal=True)
    assert made.sound, told(made)
    assert made.placeholders == []
    assert "canary" not in told(made)
    rows = {row.id: json.loads(row.raw) for row in load(made.text.encode(), "r", {}).rows}
    assert rows[row_id("provider_keys", "open-ai")] == clear("provider_keys", PROVIDER)


def test_nothing_is_a_file_too() -> None:
    made = exported({})
    assert made.sound
    assert made.text == '---\n_format_version: "1"\n'


def without(*keys: str, **more: Any) -> dict[str, Any]:
    return {**{key: value for key, value in ROWS.items() if key not in keys}, **more}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (without("provider_keys/p1"), 'models ("gpt"): `provider_key_id` names a row that is not there'),
        (without("models/m1"), 'rate_limit_policies ("classic"): `scope_ref` names a row'),
        (without("api_keys/k1"), 'claim_mappings ("map"): `resolve.api_key_id` names a row'),
        (without("api_keys/k2"), 'mcp_auth_settings ("mcp_auth_settings"): `anonymous.api_key_id` names a row'),
        (without("api_keys/k2"), '("conditional"): `conditions[1].children[0].value[1]` names a row'),
        (without(**{"models/m3": MODEL}), 'models ("gpt"): 2 rows have this name: m1, m3'),
        (without("guardrail_attachments/a1"), "guardrail g2: is attached to single scopes"),
        (
            without(**{"guardrail_attachments/a4": {"guardrail_id": "g1", "scope_type": "env", "priority": 5}}),
            "guardrails: their priorities differ",
        ),
        (without(**{"mcp_policies/p": {"scope": "env", "allow": []}}), "mcp_policies: 1 enabled"),
        (
            {"models/m": {"display_name": "a", "routing": {"targets": [{"model": "gone"}]}}},
            'models[0] ("a"): field `routing.targets[0].model`: names a model that is not in this file',
        ),
        (
            {
                "api_keys/1": KEY | {"allowed_models": []},
                "api_keys/2": KEY | {"display_name": "b", "allowed_models": []},
            },
            "field `key_hash`: is a key that api_keys[0] has already",
        ),
    ],
)
def test_what_a_file_cannot_say_blocks(rows: dict[str, Any], said: str) -> None:
    made = exported(rows)
    assert not made.sound
    assert any(said in line for line in made.blocking), made.blocking
    assert made.text


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (without(**{"mcp_policies/p": {"scope": "env", "allow": [], "enabled": False}}), "mcp_policies: 1 disabled"),
        (
            {"guardrail_attachments/a": {"guardrail_id": "g", "scope_type": "env", "priority": 0}},
            "guardrail_attachments: 1 of the guardrail g, which is not there",
        ),
        (
            {"api_keys/k": {"key_hash": "h", "allowed_models": ["gone", "g*"]}},
            'api_keys ("apikey-h"): 1 name(s) in `allowed_models` that nothing has: left out',
        ),
        (
            {"api_keys/k": {**KEY, "allowed_models": [], "future": 1}},
            "api_keys: 1 row(s) with the unknown field `future`",
        ),
        ({"cache_policies/c": {"name": "c", "applies_to": "api_key:gone"}}, "`applies_to` names a row that is not"),
    ],
)
def test_what_changes_no_meaning_is_only_told(rows: dict[str, Any], said: str) -> None:
    made = exported(rows)
    assert made.sound, told(made)
    assert any(said in line for line in made.notes), made.notes


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("models/m", {"display_name": "canary"}, "/aisix/models/m: schema validation failed"),
        ("models/m", b"{", "/aisix/models/m: value is not valid JSON"),
        ("nonsense/m", {}, "/aisix/nonsense/m: no kind"),
        ("models", {}, "/aisix/models: the key is not"),
    ],
)
def test_rows_that_cannot_be_read(key: str, value: Any, said: str) -> None:
    made = exported({key: value, "api_keys/k": {**KEY, "allowed_models": []}})
    assert not made.sound
    assert made.counts == {"api_keys": 1}
    assert any(line.startswith(said) for line in made.rejected)
    assert "canary" not in told(made)


def test_references_to_secrets_are_no_secrets() -> None:
    made = exported({"provider_keys/p": {"display_name": "p", "api_key": "$ENV://NAME"}})
    assert (made.sound, made.placeholders) == (True, [])
    assert 'api_key: "$$ENV://NAME"' in made.text
    (row,) = load(made.text.encode(), "r", {}).rows
    assert json.loads(row.raw)["api_key"] == "$ENV://NAME"


RING = Keyring([("k", b"k" * 32)])
SEALED = RING.seal("sk-canary-1", context("provider_keys", "p", ("api_key",)))
AT = ("request", "default_body_fields", "a")
SEALED_JSON = RING.seal('{"t":["canary"]}', context("provider_keys", "p", AT))


@pytest.mark.parametrize("keyring", [NO_KEYRING, RING])
def test_what_is_encrypted_becomes_a_variable(keyring: Keyring) -> None:
    made = exported({"provider_keys/p": {"display_name": "p", "api_key": SEALED}}, keyring=keyring)
    assert (made.sound, made.placeholders) == (True, ["AISIXSECRET_PROVIDER_KEY_P_API_KEY"])
    assert "enc:v1" not in made.text
    assert "canary" not in made.text


def test_what_is_encrypted_is_revealed_with_its_key_only() -> None:
    rows = {"provider_keys/p": {"display_name": "p", "api_key": SEALED}}
    made = exported(rows, reveal=True, keyring=RING)
    assert made.sound
    assert "api_key: sk-canary-1" in made.text
    (line,) = exported(rows, reveal=True).blocking
    assert line.startswith('provider_keys/p: /api_key is encrypted with key "k", which is not in the keyring')
    assert "give --config" in line


def test_an_encrypted_value_of_unknown_shape_needs_its_key() -> None:
    rows = {
        "provider_keys/p": {
            "display_name": "p",
            "api_key": "$env://A",
            "request": {"default_body_fields": {"a": SEALED_JSON}},
        }
    }
    made = exported(rows, keyring=RING)
    assert made.sound
    assert made.placeholders == ["AISIXSECRET_PROVIDER_KEY_P_REQUEST_DEFAULT_BODY_FIELDS_A_T_0"]
    assert not exported(rows).sound


def test_a_kind_of_the_ext_root_does_not_belong_here() -> None:
    assert not exported({"secret_providers/s": {"manager": "gcp", "name": "n", "project_id": "p"}}).sound


def test_every_secret_has_a_variable_of_its_own() -> None:
    rows = {
        f"provider_keys/{name}": {"display_name": name, "api_key": f"canary {name}"} for name in ("a-b", "a.b", "A B")
    }
    made = exported(rows)
    assert made.sound
    assert len(made.placeholders) == 3


def test_keys_that_are_references_go_by_the_hashes_of_those() -> None:
    texts = [f"$secret://vault/main/team/{name}" for name in ("a", "b")]
    made = exported({f"api_keys/{text[-1]}": {"key_hash": text, "allowed_models": []} for text in texts})
    assert made.sound, told(made)
    for text in texts:
        assert f'- display_name: apikey-{hash_key(text)[:16]}\n  key_hash: "${text}"\n' in made.text


def test_keys_with_one_label_go_by_their_hashes() -> None:
    two = {"api_keys/1": KEY, "api_keys/2": {**KEY, "key_hash": hash_key("x")}}
    made = exported({key: {**value, "allowed_models": []} for key, value in two.items()})
    assert made.sound, told(made)
    assert f"- display_name: apikey-{HASH[:16]}\n" in made.text
