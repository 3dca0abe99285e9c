"""Secrets inside of typed resources: found, exchanged and resolved, and nothing else with them."""

from typing import Any

import msgspec
import pytest

from aisix_common.resources import (
    ALL_KINDS,
    API_KEYS,
    BY_NAME,
    PROVIDER_KEYS,
    Loaded,
    SecretJson,
    check,
    hash_key,
    read,
)
from aisix_common.resources.concealed import (
    embedded_in,
    references_in,
    resolved,
    secrets_in,
    with_references,
    with_secrets,
)
from aisix_common.secret import Secret

from .cases import load

HEADERS = {"x-a": "sk-a", "x-b": "$env://AISIX_SECRET_B"}
DOCUMENT = {
    "display_name": "x",
    "api_key": "$secret://vault/main/openai/key",
    "request": {"default_headers": HEADERS, "default_body_fields": {"a": "$env://A", "b": ["$env://B"]}},
}
READ = read(PROVIDER_KEYS, msgspec.json.encode(DOCUMENT))
assert isinstance(READ, Loaded)
ROW = READ.value
"""References in a field, in a map, and in a value of any shape; and one where it is none, as only others write it."""
SOUND = [
    pytest.param(BY_NAME[kind.name], case.document, id=f"{kind.name}: {case.name}")
    for kind in ALL_KINDS
    for case in load(kind.name)
    if case.strict == "ok"
]


def paths(found: Any) -> list[str]:
    return sorted("/".join(map(str, at)) for at, _ in found)


@pytest.mark.parametrize(("kind", "document"), SOUND)
def test_what_is_not_exchanged_stays_the_same_object(kind: Any, document: Any) -> None:
    value = check(kind, document)
    seen = []

    def look(at: Any, secret: Secret) -> Secret:
        seen.append((at, secret))
        return secret

    assert with_secrets(value, look) is value
    assert seen == list(secrets_in(value))


@pytest.mark.parametrize(("kind", "document"), SOUND)
def test_every_secret_is_exchanged(kind: Any, document: Any) -> None:
    value = check(kind, document)
    before = list(secrets_in(value))
    changed = with_secrets(value, lambda at, secret: SecretJson.of("n") if type(secret) is SecretJson else Secret("n"))
    assert [at for at, _ in secrets_in(changed)] == [at for at, _ in before]
    assert all(secret.stored == "n" for _, secret in secrets_in(changed))
    assert list(secrets_in(value)) == before, "the value that came in stays as it was"


def test_where_references_are() -> None:
    assert paths(references_in(PROVIDER_KEYS, ROW)) == [
        "api_key",
        "request/default_body_fields/a",
        "request/default_headers/x-b",
    ]
    assert len(paths(secrets_in(ROW))) == 5
    assert list(embedded_in(ROW)) == [("request", "default_body_fields", "b")]


@pytest.mark.parametrize(
    ("key_hash", "found"),
    [
        ("$secret://vault/a/b", ["key_hash"]),
        ("$SECRET://vault/a/b", ["key_hash"]),
        ("$Env://X", ["key_hash"]),
        ("$env:/X", []),
        (" $env://X", []),
        ("$secrets://vault/a/b", []),
        ("0" * 64, []),
    ],
)
def test_a_field_that_is_no_secret_may_hold_one_too(key_hash: str, found: list[str]) -> None:
    row = check(API_KEYS, {"key_hash": key_hash, "allowed_models": [], "display_name": "$env://NOT_HERE"})
    assert paths(references_in(API_KEYS, row)) == found


def test_another_spelling() -> None:
    respelt = with_references(PROVIDER_KEYS, ROW, lambda at, text: text.replace("vault/main", "vault/other"))
    assert respelt.api_key.stored == "$secret://vault/other/openai/key"
    assert respelt.request is ROW.request
    again: Any = with_references(PROVIDER_KEYS, ROW, lambda at, text: "$env://NEW").request
    assert again.default_body_fields["a"].value() == "$env://NEW"
    assert again.default_body_fields["b"].value() == ["$env://B"]
    key = check(API_KEYS, {"key_hash": "$secret://vault/a", "allowed_models": []})
    assert (
        with_references(API_KEYS, key, lambda at, text: "$secret://vault/main/a").key_hash == "$secret://vault/main/a"
    )
    assert with_references(API_KEYS, key, lambda at, text: text) is key


class TestResolved:
    def test_each_reference_gives_way_to_its_secret(self) -> None:
        value: Any = resolved(PROVIDER_KEYS, ROW, lambda text: Secret(f"<{text}>"))
        assert value.api_key.reveal() == "<$secret://vault/main/openai/key>"
        assert value.request.default_headers["x-a"].reveal() == "sk-a"
        assert value.request.default_headers["x-b"].reveal() == "<$env://AISIX_SECRET_B>"
        assert value.request.default_body_fields["a"].value() == "<$env://A>"
        assert not list(references_in(PROVIDER_KEYS, value))

    def test_a_caller_key_is_hashed(self) -> None:
        row = check(API_KEYS, {"key_hash": "$env://AISIX_SECRET_KEY", "allowed_models": []})
        assert resolved(API_KEYS, row, lambda text: Secret("sk-1")).key_hash == hash_key("sk-1")

    def test_without_references_nothing_is_made(self) -> None:
        row = check(PROVIDER_KEYS, {"display_name": "x", "api_key": "sk-1"})
        assert resolved(PROVIDER_KEYS, row, lambda text: Secret("never")) is row

    def test_what_is_not_known_is_said(self) -> None:
        def known(text: str) -> Secret:
            raise LookupError(text)

        with pytest.raises(LookupError, match="main/openai"):
            resolved(PROVIDER_KEYS, ROW, known)
