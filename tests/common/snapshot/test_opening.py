"""Sealed secrets in rows: opened where they belong, and the row out of service in every other case."""

import base64
from typing import Any

import pytest
from msgspec import json

from aisix_common.resources import GUARDRAILS, PROVIDER_KEYS, SECRET_PROVIDERS, Loaded, Rejected, read
from aisix_common.secrets.envelope import NO_KEYRING, Keyring
from aisix_common.secrets.rows import context
from aisix_common.snapshot.opening import holds_references, may_be_sealed, read_row

from .sealed import BOTH, CLEAR, IMPOSTOR, NEW, OLD, provider_key, sealed_row

SEALED = provider_key("k", 1).value
TEXT = json.decode(SEALED)["api_key"]


@pytest.mark.parametrize("keyring", [OLD, BOTH])
def test_a_sealed_secret_is_in_clear(keyring: Keyring) -> None:
    assert CLEAR.encode() not in SEALED
    outcome: Any = read_row(PROVIDER_KEYS, "k", SEALED, keyring)
    assert outcome.value.api_key.reveal() == CLEAR
    assert CLEAR not in repr(outcome)


def test_wherever_it_is() -> None:
    body = {"a": CLEAR, "b": [CLEAR, {"c": 1}]}
    headers = {"x-a": CLEAR, "x-b": "$env://AISIX_SECRET_B", "x-empty": ""}
    given: dict[str, object] = {
        "display_name": "k",
        "api_key": CLEAR,
        "request": {"default_headers": headers, "default_body_fields": body},
    }
    row = sealed_row("provider_keys", "k", given, 1, OLD)
    assert CLEAR.encode() not in row.value
    outcome: Any = read_row(PROVIDER_KEYS, "k", row.value, OLD)
    assert {name: secret.reveal() for name, secret in outcome.value.request.default_headers.items()} == headers
    assert {name: secret.value() for name, secret in outcome.value.request.default_body_fields.items()} == body

    token = {"manager": "vault", "name": "v", "uri": "https://v", "auth": {"method": "token", "token": CLEAR}}
    row = sealed_row("secret_providers", "v", token, 1, OLD)
    assert CLEAR.encode() not in row.value
    outcome = read_row(SECRET_PROVIDERS, "v", row.value, OLD)
    assert outcome.value.auth.token.reveal() == CLEAR


def damaged(text: str) -> bytes:
    return json.encode({"display_name": "k", "api_key": text})


def by_hand(clear: bytes, at: tuple[str, ...] = ("api_key",)) -> bytes:
    """A row whose secret was sealed by somebody who has the key, whatever it is."""
    sealed = OLD.seal_bytes(clear, context("provider_keys", "k", at))
    return damaged(f"enc:v1:old:{base64.b64encode(sealed).decode()}")


@pytest.mark.parametrize(
    ("raw", "id", "keyring", "why"),
    [
        pytest.param(SEALED, "k", NO_KEYRING, "no keyring is configured", id="no keyring"),
        pytest.param(SEALED, "k", NEW, '"old", which is not in the keyring (its keys are new)', id="another key"),
        pytest.param(SEALED, "k", IMPOSTOR, "another key of the same name", id="another key of that name"),
        pytest.param(SEALED, "k2", OLD, "moved here", id="moved to another row"),
        pytest.param(damaged("enc:v1:"), "k", OLD, "names no key", id="nothing but the sign"),
        pytest.param(damaged("enc:v1:old:"), "k", OLD, "does not open", id="nothing in it"),
        pytest.param(damaged("enc:v1:old:!!!!"), "k", OLD, "not base64", id="no base64"),
        pytest.param(damaged(TEXT[:-8]), "k", OLD, "does not open", id="cut short"),
        pytest.param(damaged(TEXT.replace("old", "new")), "k", BOTH, "does not open", id="the name of another key"),
        pytest.param(damaged(TEXT).replace(b"enc:", b"\\u0065nc:"), "k", NEW, "which is not in", id="spelt otherwise"),
        pytest.param(by_hand(b"\xff\xfe"), "k", OLD, "no secret of its field's type", id="no text"),
        pytest.param(by_hand(CLEAR.encode(), ("name",)), "k", OLD, "moved here", id="of another field"),
    ],
)
def test_what_does_not_open_is_no_secret(raw: bytes, id: str, keyring: Keyring, why: str) -> None:
    outcome = read_row(PROVIDER_KEYS, id, raw, keyring)
    assert isinstance(outcome, Rejected)
    assert outcome.failure == "secret_sealed"
    assert why in outcome.message
    assert "`" not in outcome.message or "/api_key" in outcome.message
    for part in (CLEAR, TEXT, TEXT[11:40]):
        assert part not in outcome.message


def test_a_sealed_text_in_another_kind_is_not_opened() -> None:
    row = sealed_row("guardrails", "k", {"name": "g", "kind": "openai_moderation", "api_key": CLEAR}, 1, OLD)
    assert isinstance(read_row(GUARDRAILS, "k", row.value, OLD), Loaded)
    moved = json.encode({"display_name": "k", "api_key": json.decode(row.value)["api_key"]})
    assert isinstance(read_row(PROVIDER_KEYS, "k", moved, OLD), Rejected)


def test_no_json_where_json_was_sealed() -> None:
    sealed = OLD.seal("{ no json", context("provider_keys", "k", ("request", "default_body_fields", "a")))
    raw = json.encode({"display_name": "k", "api_key": "s", "request": {"default_body_fields": {"a": sealed}}})
    outcome = read_row(PROVIDER_KEYS, "k", raw, OLD)
    assert isinstance(outcome, Rejected)
    assert outcome.failure == "secret_sealed"


def test_the_rules_hold_for_what_was_sealed() -> None:
    refers = OLD.seal("$secret://vault/other/x", context("secret_providers", "v", ("auth", "token")))
    raw = json.encode(
        {"manager": "vault", "name": "v", "uri": "https://v", "auth": {"method": "token", "token": refers}}
    )
    outcome = read_row(SECRET_PROVIDERS, "v", raw, OLD)
    assert isinstance(outcome, Rejected)
    assert outcome.failure == "schema_failed"
    assert "`/auth/token`" in outcome.message


@pytest.mark.parametrize(
    "raw",
    [
        b'{"display_name":"k","api_key":"sk-canary"}',
        b'{"display_name":"enc:v1:old:AAAA","api_key":"sk-canary","new":"enc:v1:old:AAAA"}',
        b'{"display_name":"\\u0065","api_key":"enc:v2:old:AAAA"}',
        b'{"display_name":"k","api_key":""}',
        b"enc:v1:",
        b"",
    ],
)
def test_all_other_rows_are_read_as_ever(raw: bytes) -> None:
    assert read_row(PROVIDER_KEYS, "k", raw, OLD) == read(PROVIDER_KEYS, raw)


def test_unknown_fields_are_still_told() -> None:
    raw = json.encode({**json.decode(SEALED), "new": 1})
    outcome = read_row(PROVIDER_KEYS, "k", raw, OLD)
    assert isinstance(outcome, Loaded)
    assert outcome.unknown == ("new",)


def test_most_rows_show_that_nothing_is_sealed() -> None:
    assert may_be_sealed(SEALED)
    assert not may_be_sealed(provider_key("k", 1, NO_KEYRING).value)


@pytest.mark.parametrize(
    ("key", "refers"),
    [
        ("$secret://vault/main/a/b", True),
        ("\\u0024env://AISIX_SECRET_A", True),
        ("sk-$5", False),
        ("enc:v1:", False),
        ("sk-canary", False),
    ],
)
def test_rows_that_hold_references_are_told(key: str, refers: bool) -> None:
    raw = f'{{"display_name":"$env://no secret field","api_key":"{key}"}}'.encode()
    outcome = read(PROVIDER_KEYS, raw)
    assert isinstance(outcome, Loaded)
    assert holds_references(PROVIDER_KEYS, raw, outcome.value) is refers
