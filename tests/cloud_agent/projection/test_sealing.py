"""No secret of the Cloud's rows lies readable in the local etcd, whatever the row is; all the rest survives."""

from typing import Any

import pytest
from msgspec import json

from aisix_cloud_agent.projection.sealing import SMALL, WITHHELD, presented, readable, sealed, size
from aisix_common.resources import BY_NAME, Loaded, Rejected
from aisix_common.resources.sensitive import SecretJson
from aisix_common.secrets.envelope import NO_KEYRING, CannotSeal
from aisix_common.secrets.rows import context
from aisix_common.snapshot.opening import read_row

from tests.cloud_agent.local_etcd import KEYRING
from tests.support.documents import CANARIES, SET

CANARY = "sk-canary"
PEM = "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----"


def projected(kind: str, raw: bytes, id: str = "x") -> bytes:
    """The whole way of a row."""
    raw = presented(raw)
    return sealed(kind, id, raw, readable(kind, raw), KEYRING)


@pytest.mark.parametrize("sample", SET, ids=lambda sample: sample.kind)
def test_every_kind_is_sealed_and_opens_to_what_it_was(sample: Any) -> None:
    kind = BY_NAME[sample.kind]
    raw = json.encode(sample.document)
    made = projected(sample.kind, raw)
    assert not any(canary.encode() in made for canary in CANARIES)
    before, after = read_row(kind, "x", raw, NO_KEYRING), read_row(kind, "x", made, KEYRING)
    assert isinstance(before, Loaded)
    assert after == before
    assert projected(sample.kind, made) == made


def test_a_row_without_secrets_is_the_same_bytes() -> None:
    raw = b'{ "key_hash":"h",  "allowed_models":["*"], "budget": 1.50, "future": 1e400000 }'
    assert projected("api_keys", raw) == raw


def test_beside_the_secret_every_byte_survives() -> None:
    raw = b'{"future":{"a" : 1.50,"big":123456789012345678901234567890},"display_name":"k","api_key":"sk-canary"}'
    made = projected("provider_keys", raw)
    assert made.startswith(
        b'{"future":{"a" : 1.50,"big":123456789012345678901234567890},"display_name":"k","api_key":"enc'
    )


def test_an_older_spelling_stays_and_is_sealed_for_the_present_one() -> None:
    made = projected("provider_keys", b'{"display_name":"k","secret":"sk-canary"}')
    text = json.decode(made)["secret"]
    assert KEYRING.open(text, context("provider_keys", "x", ("api_key",))) == CANARY
    assert isinstance(read_row(BY_NAME["provider_keys"], "x", made, KEYRING), Loaded)


def test_an_older_spelling_beside_a_member_that_is_not_known() -> None:
    document = {"display_name": "k", "secret": "canary-1", "rotation": {"token": "canary-2"}}
    made = projected("provider_keys", json.encode(document))
    assert b"canary" not in made
    outcome = read_row(BY_NAME["provider_keys"], "x", made, KEYRING)
    assert isinstance(outcome, Loaded)
    assert outcome.value.api_key.reveal() == "canary-1"


STAYS = ["$secret://vault/v/a/b", "$env://AISIX_SECRET_A", "enc:v1:cloud:AAAA", ""]


@pytest.mark.parametrize("text", STAYS)
@pytest.mark.parametrize("kind", ["mcp_servers", "future_kind"])
def test_references_and_sealed_texts_stay(text: str, kind: str) -> None:
    raw = json.encode({"name": "m", "url": "https://m", "auth_type": "bearer", "secret": text})
    assert projected(kind, raw) == raw


UNREADABLE: list[tuple[str, Any, list[tuple[tuple[str | int, ...], str]]]] = [
    # a newer guardrail kind, a wrong type beside the secret, both spellings, the secret in a wrong shape
    ("guardrails", {"name": "g", "kind": "newer", "api_key": "c1"}, [(("api_key",), "c1")]),
    ("provider_keys", {"display_name": 7, "api_key": "c1"}, [(("api_key",), "c1")]),
    ("provider_keys", {"api_key": "c1", "secret": "c2"}, [(("api_key",), "c1"), (("api_key",), "c2")]),
    ("provider_keys", {"display_name": "k", "secret": ["c1", 2]}, [(("api_key", 0), "c1")]),
    ("provider_keys", {"api_key": {"a": "c1", "b": ""}}, [(("api_key", "a"), "c1")]),
    (
        "provider_keys",
        {
            "api_key": 1,
            "request": {"default_headers": {"x-a": "c1"}, "default_body_fields": {"b": {"c": "c2"}, "d": 1}},
        },
        [
            (("request", "default_headers", "x-a"), "c1"),
            (("request", "default_body_fields", "b"), '{"c":"c2"}'),
            (("request", "default_body_fields", "d"), "1"),
        ],
    ),
    ("api_keys", {"key_hash": 1, "sso": {"client_secret": "c1"}}, [(("sso", "client_secret"), "c1")]),
    (
        "future_kind",
        {"deep": [{"token": "c1"}, {"password": "c2"}]},
        [(("deep", 0, "token"), "c1"), (("deep", 1, "password"), "c2")],
    ),
    ("future_kind", {"cert": PEM}, [(("cert",), PEM)]),
    ("future_kind", [PEM, "plain"], [((0,), PEM)]),
    ("future_kind", PEM, [((), PEM)]),
]


@pytest.mark.parametrize(("kind", "document", "secrets"), UNREADABLE)
def test_rows_that_are_not_understood_are_sealed_by_name(kind: str, document: Any, secrets: list[Any]) -> None:
    raw = json.encode(document)
    found = readable(kind, presented(raw))
    assert [(each.where, each.secret.reveal()) for each in found] == secrets
    made = projected(kind, raw)
    assert not any(part in made for part in (b'"c1"', b'"c2"', b"PRIVATE KEY"))
    assert readable(kind, made) == ()
    for each in found:
        value = json.decode(made)
        for part in each.at:
            value = value[part]
        assert KEYRING.open(value, context(kind, "x", each.where)) == each.secret.reveal()


def test_a_member_that_is_not_known_survives_and_is_sealed_if_it_looks_like_a_secret() -> None:
    document = {
        "display_name": "k",
        "api_key": "canary-1",
        "rotation": {"token": "canary-2", "every": "day"},
        "note": "token",
        "request": {"default_headers": {"x-a": "canary-3"}, "signing": {"private_key": "canary-4"}},
    }
    made = projected("provider_keys", json.encode(document))
    assert b"canary" not in made
    after = json.decode(made)
    assert (after["note"], after["rotation"]["every"]) == ("token", "day")
    at = ("request", "signing", "private_key")
    assert KEYRING.open(after["request"]["signing"]["private_key"], context("provider_keys", "x", at)) == "canary-4"
    outcome = read_row(BY_NAME["provider_keys"], "x", made, KEYRING)
    assert isinstance(outcome, Loaded)
    assert outcome.unknown == ("note", "request.signing", "rotation")


GARBAGE = [
    b'{"api_key":"sk-canary"',
    b'{"api_key":"sk-canary\xff"}',
    b'{"\\u0061pi_key":"sk-canary"',
    PEM.encode(),
    b'{"a":' * 100 + b'{"api_key":"sk-canary"}' + b"}" * 100,
    b"[" * 100_000 + b'"api_key"',
]


@pytest.mark.parametrize("raw", GARBAGE)
@pytest.mark.parametrize("kind", ["provider_keys", "api_keys", "future_kind"])
def test_what_is_no_json_and_may_hold_a_secret_is_withheld(kind: str, raw: bytes) -> None:
    assert projected(kind, raw) == WITHHELD
    assert presented(WITHHELD) == WITHHELD


def test_what_stands_for_it_is_reported_by_the_proxies() -> None:
    outcome = read_row(BY_NAME["provider_keys"], "x", WITHHELD, KEYRING)
    assert isinstance(outcome, Rejected)
    assert outcome.failure == "non_json"


@pytest.mark.parametrize("raw", [b"", b"garbage", b'{"key_hash":', b"\xff\xfe", b"[" * 100_000])
def test_other_garbage_stays_byte_for_byte(raw: bytes) -> None:
    assert projected("provider_keys", raw) == raw


def test_without_a_key_nothing_is_sealed() -> None:
    raw = json.encode({"display_name": "k", "api_key": CANARY})
    with pytest.raises(CannotSeal):
        sealed("provider_keys", "x", raw, readable("provider_keys", raw), NO_KEYRING)


def test_a_found_secret_does_not_show() -> None:
    found = readable("provider_keys", json.encode({"display_name": "k", "api_key": CANARY}))
    assert len(found) == 1
    assert CANARY not in repr(found)


def large(headers: dict[str, str], fields: dict[str, Any]) -> bytes:
    """A row over SMALL."""
    request = {"default_headers": headers, "default_body_fields": fields}
    return json.encode({"display_name": "x" * SMALL, "api_key": 'quo"ted\u2028', "request": request})


@pytest.mark.parametrize(
    "raw",
    [
        large({}, {}),
        large({f"x-{n}": "1" for n in range(2000)}, {}),
        large({"x": 'ä"\n' * 1000}, {"a": {"b": ["ä", None, 1.5]}, "c": "text", "d": 7}),
    ],
)
def test_the_size_is_foretold(raw: bytes) -> None:
    made = projected("provider_keys", raw)
    assert len(made) <= size("provider_keys", raw, KEYRING) <= len(made) + 64
    assert size("provider_keys", raw, NO_KEYRING) == len(raw)


def test_a_small_row_never_grows_beyond_what_is_said_of_it() -> None:
    raw = json.encode({"token": ["a"] * ((SMALL - 12) // 4)})
    assert SMALL - 8 <= len(raw) <= SMALL
    assert len(projected("future_kind", raw)) <= size("future_kind", raw, KEYRING)


def test_values_are_sealed_as_their_text() -> None:
    document = {"display_name": 1, "request": {"default_body_fields": {"a": "text", "b": "$env://AISIX_SECRET_A"}}}
    (only,) = readable("provider_keys", json.encode(document))
    assert isinstance(only.secret, SecretJson)
    assert only.secret.reveal() == '"text"'
