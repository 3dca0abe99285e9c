"""Rows with their secrets: what may be used, what may not, and that no secret is told of."""

import json
from typing import Any

import pytest

from aisix_common.resources import API_KEYS, MCP_SERVERS, PROVIDER_KEYS, Kind, Loaded, Rejected, hash_key, read
from aisix_common.resources.concealed import references_in
from aisix_common.secret import Secret
from aisix_proxy.secret_managers.resolution import resolve, usable

REF = "$secret://vault/v/a/k"
PEM = "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----"


def value_of(kind: Kind[Any], document: dict[str, Any]) -> Any:
    loaded = read(kind, json.dumps(document).encode())
    assert isinstance(loaded, Loaded), loaded
    return loaded.value


def resolved(kind: Kind[Any], document: dict[str, Any], **secrets: str) -> Any:
    texts = {f"$secret://vault/v/a/{name}": Secret(text) for name, text in secrets.items()}
    value = value_of(kind, document)
    return resolve(kind, value, references_in(kind, value), texts.__getitem__)


@pytest.mark.parametrize(
    ("text", "used"),
    [
        ("sk-1", "sk-1"),
        ("sk-1\n", "sk-1"),
        ("sk-1\r\n", "sk-1"),
        (" with spaces ", " with spaces "),
        ("Schlüssel", "Schlüssel"),
        (PEM + "\n", PEM),
        ('{"type":\n"service_account"}', '{"type":\n"service_account"}'),
        ("sk-1\n\n", None),
        ("sk-1\nx", None),
        ("sk-1\r", None),
        ("a\tb", None),
        ("a\x00b", None),
        ("a\x7f", None),
        ("", None),
        ("\n", None),
        ("$secret://vault/v/b/k", None),
        ("$ENV://AISIX_SECRET_A", None),
        ("enc:v1:k1:AAAA", None),
    ],
)
def test_what_may_be_used(text: str, used: str | None) -> None:
    judged = usable(Secret(text))
    if used is None:
        assert isinstance(judged, str)
        assert "sk-1" not in judged
    else:
        assert isinstance(judged, Secret)
        assert judged.reveal() == used


@pytest.mark.parametrize(
    ("text", "used"),
    [
        ("sk-caller-1", "sk-caller-1"),
        ("sk-caller-1\n", "sk-caller-1"),
        ("a" * 8, "a" * 8),
        ("a" * 7, None),
        ("a" * 4097, None),
        ("sk caller 1", None),
        ("sk-caller-ü", None),
        (PEM, None),
        ('{"a": "caller"}', None),
        ("$secret://vault/v/b/k", None),
    ],
)
def test_what_callers_may_present(text: str, used: str | None) -> None:
    made = resolved(API_KEYS, {"key_hash": REF, "allowed_models": ["*"]}, k=text)
    if used is None:
        assert isinstance(made, Rejected)
        assert made.failure == "secret_unresolved"
        assert made.message.startswith("/key_hash leads to ")
        assert text not in made.message
    else:
        assert made.key_hash == hash_key(used)


def test_every_reference_of_a_row() -> None:
    document = {
        "display_name": "acme",
        "provider": "openai",
        "api_key": REF,
        "request": {"default_headers": {"x-a": "$secret://vault/v/a/header", "x-b": "plain"}},
    }
    made = resolved(PROVIDER_KEYS, document, k="sk-1\n", header="h")
    assert made.api_key.reveal() == "sk-1"
    assert {name: value.reveal() for name, value in made.request.default_headers.items()} == {
        "x-a": "h",
        "x-b": "plain",
    }
    bad = resolved(PROVIDER_KEYS, document, k="sk-1", header="h\r\nx-c: d")
    assert bad == Rejected(
        "secret_unresolved",
        "/request/default_headers/x-a leads to a secret that holds a line break or control character",
    )


def test_the_rules_of_the_kind_hold_for_the_secret_too() -> None:
    calls = []

    def rules(value: Any, strict: bool) -> Any:
        calls.append((value.api_key.reveal(), strict))
        return PROVIDER_KEYS.rules(value, strict)

    kind = Kind("provider_keys", PROVIDER_KEYS.struct, "display_name", PROVIDER_KEYS.nulls, rules=rules)
    value = value_of(PROVIDER_KEYS, {"display_name": "acme", "provider": "openai", "api_key": REF})
    resolve(kind, value, references_in(kind, value), lambda text: Secret("sk-1"))
    assert calls == [("sk-1", False)]


def test_rows_of_other_kinds() -> None:
    made = resolved(
        MCP_SERVERS, {"name": "s", "url": "https://mcp.test/", "auth_type": "bearer", "secret": REF}, k="t-1"
    )
    assert made.secret.reveal() == "t-1"
