"""What rows hold, and rows under the first key with everything else as it was."""

import json
from itertools import count
from typing import Any

import pytest

from aisix_common.resources import API_KEYS, BY_NAME, PROVIDER_KEYS
from aisix_common.secrets.census import Census, Held, Unreadable, look, renewed
from aisix_common.secrets.envelope import NO_KEYRING, CannotOpen, Keyring
from aisix_common.secrets.rows import context

K1 = Keyring([("k1", b"1" * 32)])
K2_K1 = Keyring([("k2", b"2" * 32), ("k1", b"1" * 32)])


def seal(text: str, *at: str | int, kind: str = "provider_keys", keyring: Keyring = K1) -> str:
    return keyring.seal(text, context(kind, "p", at))


HEADERS = ("request", "default_headers")


def row(api_key: str, **headers: str) -> bytes:
    return json.dumps({"display_name": "p", "api_key": api_key, "request": {"default_headers": headers}}).encode()


@pytest.mark.parametrize(
    ("raw", "keyring", "held"),
    [
        (row("clear", a="", b="$env://X"), K1, Held((), 1, 1)),
        (row(seal("s", "api_key"), a=seal("t", *HEADERS, "a")), K1, Held(("k1", "k1"))),
        (row(seal("s", "api_key", keyring=K2_K1), a="clear"), K2_K1, Held(("k2",), 1)),
        (row("enc:v1:", a="enc:v1:k9:AAAA"), NO_KEYRING, Held(("", "k9"), unopened="/api_key is not a well-formed")),
        (row(seal("s", "other")), K1, Held(("k1",), unopened='/api_key does not open with key "k1"')),
    ],
    ids=count(),
)
def test_what_a_row_holds(raw: bytes, keyring: Keyring, held: Held) -> None:
    found = look(PROVIDER_KEYS, "p", raw, keyring)
    assert (found.keys, found.clear, found.references) == (held.keys, held.clear, held.references)
    assert found.unopened.startswith(held.unopened)
    assert bool(found.unopened) == bool(held.unopened)


def test_a_hash_may_be_a_reference() -> None:
    raw = b'{"key_hash": "$env://AISIX_SECRET_A", "allowed_models": []}'
    assert look(API_KEYS, "p", raw, K1) == Held((), 0, 1)


def test_the_census() -> None:
    census = Census()
    for place, raw in enumerate((row(seal("s", "api_key"), a="x"), row("$env://X"), row(seal("s", "b")), b"{")):
        census.add(str(place), PROVIDER_KEYS, "p", raw, K1)
    assert (census.rows, census.keys["k1"].rows, census.keys["k1"].values) == (4, 2, 2)
    assert (census.clear.rows, census.references.rows) == (1, 1)
    assert (list(census.unopened), list(census.unreadable)) == (["2"], ["3"])


def test_only_secrets_change() -> None:
    """Unknown fields, order, numbers and nulls of other writers stay, byte for byte."""
    old = seal("s", "api_key")
    raw = (
        f'{{"zz": 1.0, "api_key" : "{old}",\n "display_name":"p", "n": 123456789012345678901234567890, '
        '"request": {"default_headers": {"a/b": "clear", "e": "", "r": "$env://X"}, "x": null, '
        '"default_body_fields": {"j": {"k": [1e3]}}}}'
    ).encode()
    new = renewed(PROVIDER_KEYS, "p", raw, K2_K1)
    assert new is not None
    assert list(json.loads(new)) == ["zz", "api_key", "display_name", "n", "request"]
    assert b'"zz":1.0' in new
    assert b"123456789012345678901234567890" in new
    made = json.loads(new)
    ring = Keyring([("k2", b"2" * 32)])
    assert ring.open(made["api_key"], context("provider_keys", "p", ("api_key",))) == "s"
    headers = made["request"]["default_headers"]
    assert ring.open(headers["a/b"], context("provider_keys", "p", (*HEADERS, "a/b"))) == "clear"
    assert (headers["e"], headers["r"], made["request"]["x"]) == ("", "$env://X", None)
    body = made["request"]["default_body_fields"]["j"]
    at = ("request", "default_body_fields", "j")
    assert json.loads(ring.open(body, context("provider_keys", "p", at))) == {"k": [1000.0]}
    assert renewed(PROVIDER_KEYS, "p", new, K2_K1) is None


def test_an_older_spelling_stays() -> None:
    new = renewed(PROVIDER_KEYS, "p", b'{"display_name": "p", "secret": "clear"}', K1)
    assert new is not None
    made = json.loads(new)
    assert list(made) == ["display_name", "secret"]
    assert K1.open(made["secret"], context("provider_keys", "p", ("api_key",))) == "clear"
    assert renewed(PROVIDER_KEYS, "p", new, K1) is None


PROVIDER: dict[str, Any] = {"manager": "vault", "name": "v", "uri": "http://x"}


def test_a_kind_of_several_structs() -> None:
    raw = json.dumps({**PROVIDER, "auth": {"method": "token", "token": "clear"}}).encode()
    new = renewed(BY_NAME["secret_providers"], "p", raw, K1)
    assert new is not None
    text = json.loads(new)["auth"]["token"]
    assert K1.open(text, context("secret_providers", "p", ("auth", "token"))) == "clear"


def test_what_cannot_be_renewed_is_left() -> None:
    with pytest.raises(CannotOpen):
        renewed(PROVIDER_KEYS, "p", row(seal("s", "elsewhere"), a="clear"), K2_K1)
    for raw in (b"{", b"{}", b"[]"):
        with pytest.raises(Unreadable):
            renewed(PROVIDER_KEYS, "p", raw, K1)
        with pytest.raises(Unreadable):
            look(PROVIDER_KEYS, "p", raw, K1)
