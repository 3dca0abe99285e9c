"""Sealing what a resource holds: every secret of every kind in its own place, and nothing else."""

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from aisix_common.resources import BY_NAME, PROVIDER_KEYS, Kind, Refused, SecretJson, check, document
from aisix_common.resources.concealed import secrets_in
from aisix_common.secret import Secret, is_sealed
from aisix_common.secrets.envelope import NO_KEYRING, CannotOpen, Keyring
from aisix_common.secrets.rows import context, opened, resealed, sealed

K1 = Keyring([("k1", b"1" * 32)])
K2_K1 = Keyring([("k2", b"2" * 32), ("k1", b"1" * 32)])
K2 = Keyring([("k2", b"2" * 32)])
CANARY = "canary-7171"

DOCUMENTS: list[tuple[str, dict[str, Any], int]] = [
    ("provider_keys", {"display_name": "a", "api_key": CANARY}, 1),
    (
        "provider_keys",
        {
            "display_name": "a",
            "api_key": CANARY,
            "request": {
                "default_headers": {"x/y~0": CANARY, "ü": CANARY},
                "default_body_fields": {"deep": {"t": [CANARY, None, 1.5]}, "text": CANARY, "n": 1},
            },
        },
        6,
    ),
    ("mcp_servers", {"name": "a", "url": "http://x", "auth_type": "bearer", "secret": CANARY}, 1),
    ("a2a_agents", {"name": "a", "url": "http://x", "auth_type": "bearer", "secret": CANARY}, 1),
    (
        "observability_exporters",
        {"name": "a", "kind": "otlp_http", "endpoint": "https://x", "headers": {"A": CANARY, "B": CANARY}},
        2,
    ),
    ("guardrails", {"name": "a", "kind": "lakera", "api_key": CANARY}, 1),
    (
        "secret_providers",
        {"manager": "vault", "name": "v", "uri": "http://x", "auth": {"method": "token", "token": CANARY}},
        1,
    ),
    ("models", {"display_name": "m", "provider": "openai", "model_name": "g", "provider_key_id": "p"}, 0),
]


def typed(kind: Kind[Any], stored: Any) -> Any:
    return check(kind, stored)


@pytest.mark.parametrize(("name", "clear", "count"), DOCUMENTS)
def test_there_and_back(name: str, clear: dict[str, Any], count: int) -> None:
    kind = BY_NAME[name]
    value = typed(kind, clear)
    made = sealed(kind, "id", clear, value, K1)
    assert (made.clear, made.sealed) == ((), count > 0)
    text = json.dumps(made.document)
    assert "canary" not in text
    assert text.count("enc:v1:k1:") == count
    again = typed(kind, made.document)
    assert all(is_sealed(secret.stored or "") for _, secret in secrets_in(again))
    assert opened(kind, "id", again, K1) == value
    assert document(kind, opened(kind, "id", again, K2_K1)) == document(kind, value)


@pytest.mark.parametrize(("name", "clear", "count"), DOCUMENTS)
def test_without_a_key_it_says_what_is_in_clear(name: str, clear: dict[str, Any], count: int) -> None:
    kind = BY_NAME[name]
    made = sealed(kind, "id", clear, typed(kind, clear), NO_KEYRING)
    assert (made.document, made.sealed, len(made.clear)) == (clear, False, count)


@pytest.mark.parametrize(("name", "clear", "count"), DOCUMENTS)
def test_under_another_key(name: str, clear: dict[str, Any], count: int) -> None:
    kind = BY_NAME[name]
    value = typed(kind, clear)
    old = typed(kind, sealed(kind, "id", clear, value, K1).document)
    for before in (value, old):
        new = resealed(kind, "id", before, K2_K1)
        assert {(secret.stored or "")[:10] for _, secret in secrets_in(new)} == ({"enc:v1:k2:"} if count else set())
        assert {type(secret) for _, secret in secrets_in(new)} == {type(secret) for _, secret in secrets_in(value)}
        assert opened(kind, "id", new, K2) == value
        assert resealed(kind, "id", new, K2_K1) is new


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.text(min_size=1), max_size=4))
def test_any_names_of_headers(headers: dict[str, str]) -> None:
    clear = {"display_name": "a", "api_key": "k", "request": {"default_headers": headers}}
    try:
        value = typed(PROVIDER_KEYS, clear)
    except Refused:  # which names and texts the kind takes is tested with it
        assume(False)
    made = sealed(PROVIDER_KEYS, "id", clear, value, K1)
    assert opened(PROVIDER_KEYS, "id", typed(PROVIDER_KEYS, made.document), K1) == value


@pytest.mark.parametrize("kept", ["$secret://vault/a/b", "$ENV://A", ""])
def test_references_and_nothing_stay(kept: str) -> None:
    clear = {"display_name": "a", "api_key": "k", "request": {"default_headers": {"x": kept}}}
    value = typed(PROVIDER_KEYS, clear)
    made = sealed(PROVIDER_KEYS, "id", clear, value, K1)
    assert made.document["request"]["default_headers"] == {"x": kept}
    stored = typed(PROVIDER_KEYS, made.document)
    assert resealed(PROVIDER_KEYS, "id", stored, K2_K1).request.default_headers == {"x": Secret(kept)}
    assert sealed(PROVIDER_KEYS, "id", clear, value, NO_KEYRING).clear == (("api_key",),)


def test_what_is_sealed_already_stays_and_the_rest_of_the_document_too() -> None:
    clear = {"display_name": "a", "api_key": CANARY, "x-of-others": 1}
    value = typed(PROVIDER_KEYS, {"display_name": "a", "api_key": CANARY})
    first = sealed(PROVIDER_KEYS, "id", clear, value, K1)
    assert list(first.document) == list(clear)
    assert clear["api_key"] == CANARY
    stored = typed(PROVIDER_KEYS, {"display_name": "a", "api_key": first.document["api_key"]})
    again = sealed(PROVIDER_KEYS, "id", first.document, stored, K2_K1)
    assert (again.document, again.sealed, again.clear) == (first.document, False, ())


A = {"display_name": "a", "api_key": CANARY}


@pytest.mark.parametrize(
    ("id", "at", "keyring", "said"),
    [
        ("other", ("api_key",), K1, "moved"),
        ("id", ("request", "default_headers", "x/1"), K1, "moved"),
        ("id", ("api_key",), K2, 'key "k1", which is not in the keyring'),
        ("id", ("api_key",), Keyring([("k1", b"3" * 32)]), "another key of the same name"),
    ],
)
def test_what_does_not_open_says_where(id: str, at: tuple[str, ...], keyring: Keyring, said: str) -> None:
    text = sealed(PROVIDER_KEYS, "id", A, typed(PROVIDER_KEYS, A), K1).document["api_key"]
    moved = {"display_name": "a", "api_key": text}
    if at != ("api_key",):
        moved = {**A, "request": {"default_headers": {"x/1": text}}}
    value = typed(PROVIDER_KEYS, moved)
    for use in (opened, resealed):
        ring = keyring if use is opened else Keyring([("new", b"9" * 32), *_keys(keyring)])
        with pytest.raises(CannotOpen) as caught:
            use(PROVIDER_KEYS, id, value, ring)
        pointer = "".join("/" + part.replace("/", "~1") for part in at)
        assert str(caught.value).startswith(f"{pointer} ")
        assert said.split(",")[0] in str(caught.value)
        assert caught.value.key_id == "k1"
        assert CANARY not in str(caught.value)


def _keys(keyring: Keyring) -> list[tuple[str, bytes]]:
    known = {K1: b"1", K2: b"2"}
    return [(id, known.get(keyring, b"3") * 32) for id in keyring.ids]


def test_nothing_sealed_is_the_same_object() -> None:
    value = typed(PROVIDER_KEYS, A)
    assert opened(PROVIDER_KEYS, "id", value, NO_KEYRING) is value


def test_contexts_differ_where_places_do() -> None:
    places = [("a", "b", ("c",)), ("a", "b", ("c", 0)), ("a", "b", ("c", "0")), ("a", "b/c", ()), ("ab", "", ("c",))]
    assert len({context(kind, id, at) for kind, id, at in places}) == len(places)


def test_a_json_value_keeps_its_shape() -> None:
    body = {"t": [1, {"n": None}], "s": "x"}
    clear = {"display_name": "a", "api_key": "k", "request": {"default_body_fields": {"b": body}}}
    stored = sealed(PROVIDER_KEYS, "id", clear, typed(PROVIDER_KEYS, clear), K1).document
    back = opened(PROVIDER_KEYS, "id", typed(PROVIDER_KEYS, stored), K1).request.default_body_fields["b"]
    assert isinstance(back, SecretJson)
    assert back.value() == body
