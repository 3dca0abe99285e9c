"""Secret references in documents: tables of what is refused and how they are spelt."""

import pytest

from aisix_admin.references import References, texts_in
from aisix_common.resources import API_KEYS, BY_NAME, PROVIDER_KEYS, check, document
from aisix_common.secrets.environment import EnvPolicy

PROVIDERS = {"vault": ["main"], "aws": ["default", "other"], "gcp": ["a", "b"]}
REFERENCES = References(lambda manager: PROVIDERS.get(manager, []), EnvPolicy(["AISIX_SECRET_*"], ["TOKEN"]))


@pytest.mark.parametrize(
    ("text", "long"),
    [
        ("$secret://vault/main/a/b", "$secret://vault/main/a/b"),
        ("$SECRET://vault/a/b", "$secret://vault/main/a/b"),
        ("$secret://aws/name", "$secret://aws/default/name"),
        ("$secret://aws/other/name", "$secret://aws/other/name"),
        ("$secret://gcp/b/name", "$secret://gcp/b/name"),
        ("$ENV://AISIX_SECRET_A/key", "$env://AISIX_SECRET_A/key"),
    ],
)
def test_the_long_form(text: str, long: str) -> None:
    value = check(PROVIDER_KEYS, {"display_name": "p", "api_key": text})
    assert REFERENCES.flaws(PROVIDER_KEYS, value) == []
    assert document(PROVIDER_KEYS, REFERENCES.spelled(PROVIDER_KEYS, value))["api_key"] == long
    assert REFERENCES.text(text) == long


@pytest.mark.parametrize(
    "text",
    [
        "$secret://",
        "$secret://vault",
        "$secret://vault/main",
        "$secret://vault/main/a//b",
        "$secret://vault/main/../b",
        "$secret://gcp/name",
        "$secret://azure/a/b",
        "$env://",
        "$env://HOME",
        "$env://TOKEN",
        "$env://AISIX_ADMIN_KEY",
        "$env://AISIX_SECRET_A/",
    ],
)
def test_what_leads_nowhere(text: str) -> None:
    value = check(PROVIDER_KEYS, {"display_name": "p", "api_key": text})
    (flaw,) = REFERENCES.flaws(PROVIDER_KEYS, value)
    assert flaw.at == ("api_key",)
    assert REFERENCES.flaws(PROVIDER_KEYS, value, [text]) == [], "known is known"
    assert REFERENCES.spelled(PROVIDER_KEYS, value, [text]) is value
    assert REFERENCES.text(text) == text


def test_every_reference_has_its_place() -> None:
    headers = {"x": "$secret://nowhere", "y": "plain"}
    value = check(PROVIDER_KEYS, {"display_name": "p", "api_key": "$env://NO", "request": {"default_headers": headers}})
    assert [flaw.at for flaw in REFERENCES.flaws(PROVIDER_KEYS, value)] == [
        ("api_key",),
        ("request", "default_headers", "x"),
    ]
    key = check(API_KEYS, {"key_hash": "$env://NO", "allowed_models": []})
    assert [flaw.at for flaw in REFERENCES.flaws(API_KEYS, key)] == [("key_hash",)]
    assert texts_in(API_KEYS, key) == {"$env://NO"} and texts_in(API_KEYS, None) == frozenset()


def test_a_union_and_a_nested_one_are_looked_into() -> None:
    kind = BY_NAME["secret_providers"]
    auth = {"method": "token", "token": "$ENV://AISIX_SECRET_T"}
    value = check(kind, {"manager": "vault", "name": "v", "uri": "https://v.example", "auth": auth})
    assert document(kind, REFERENCES.spelled(kind, value))["auth"]["token"] == "$env://AISIX_SECRET_T"


def test_providers_that_come_and_go_with_the_same_write() -> None:
    along = REFERENCES.along(["azure/new", "vault/second"], ["aws/other"])
    assert sorted(along.names("vault")) == ["main", "second"] and list(along.names("azure")) == ["new"]
    assert list(along.names("aws")) == ["default"]
    assert sorted(REFERENCES.names("vault")) == ["main"]
