"""Secrets on their way into etcd. What they become in a transaction is in test_transaction.py."""

from typing import Any

import pytest

from aisix_admin.errors import NoKeyring, WrongKeyring
from aisix_admin.sealing import Sealing
from aisix_common.resources import PROVIDER_KEYS, check, document
from aisix_common.secrets.canary import canary_row
from aisix_common.secrets.envelope import NO_KEYRING, Keyring
from aisix_common.secrets.rows import resealed

ONE = Keyring([("k1", b"1" * 32)])
TWO = Keyring([("k2", b"2" * 32)])
BOTH = Keyring([("k2", b"2" * 32), ("k1", b"1" * 32)])
PLAIN = {"display_name": "p", "api_key": "canary", "request": {"default_body_fields": {"x": {"a": [1]}}}}
VALUE = check(PROVIDER_KEYS, PLAIN)


def sealing(keyring: Keyring, *, allow_plaintext: bool = False) -> Sealing:
    return Sealing(lambda: keyring, allow_plaintext=allow_plaintext)


def test_what_is_sealed_is_told_in_clear_to_whoever_has_the_key() -> None:
    stored = sealing(ONE).sealed(PROVIDER_KEYS, "1", document(PROVIDER_KEYS, VALUE), VALUE)
    assert stored.sealed and "canary" not in str(stored.document)
    row = check(PROVIDER_KEYS, stored.document)
    assert sealing(BOTH).clear(PROVIDER_KEYS, "1", row) == document(PROVIDER_KEYS, VALUE)
    for keyring, id in ((TWO, "1"), (NO_KEYRING, "1"), (ONE, "2")):
        assert sealing(keyring).clear(PROVIDER_KEYS, id, row) == stored.document, "what cannot be opened stays sealed"


def test_each_secret_is_opened_for_itself() -> None:
    mixed: Any = resealed(PROVIDER_KEYS, "1", VALUE, ONE)
    mixed = check(PROVIDER_KEYS, {**document(PROVIDER_KEYS, mixed), "api_key": "$env://AISIX_SECRET_X"})
    clear = sealing(ONE).clear(PROVIDER_KEYS, "1", mixed)
    assert clear["api_key"] == "$env://AISIX_SECRET_X"
    assert clear["request"] == PLAIN["request"]


def test_without_a_keyring() -> None:
    plain = document(PROVIDER_KEYS, VALUE)
    with pytest.raises(NoKeyring) as refused:
        sealing(NO_KEYRING).sealed(PROVIDER_KEYS, "1", plain, VALUE)
    assert [each.path for each in refused.value.problems] == ["/api_key", "/request/default_body_fields/x"]
    assert sealing(NO_KEYRING, allow_plaintext=True).sealed(PROVIDER_KEYS, "1", plain, VALUE).document == plain
    referring = check(PROVIDER_KEYS, {"display_name": "p", "api_key": "$env://AISIX_SECRET_X"})
    made = sealing(NO_KEYRING).sealed(PROVIDER_KEYS, "1", document(PROVIDER_KEYS, referring), referring)
    assert made.document["api_key"] == "$env://AISIX_SECRET_X", "a reference is no secret"


def test_a_keyring_is_used_also_where_plain_text_is_allowed() -> None:
    assert sealing(ONE, allow_plaintext=True).sealed(PROVIDER_KEYS, "1", document(PROVIDER_KEYS, VALUE), VALUE).sealed


def test_the_canary() -> None:
    first = sealing(ONE).canary(None)
    assert first is not None
    assert sealing(ONE).canary(first) is None and sealing(BOTH).canary(first) is None
    with pytest.raises(WrongKeyring):
        sealing(TWO).canary(first)
    with pytest.raises(WrongKeyring):
        sealing(Keyring([("k1", b"3" * 32)])).canary(canary_row(ONE))


def test_the_keyring_is_that_of_the_moment() -> None:
    rings = [BOTH, ONE]
    moving = Sealing(lambda: rings[-1], allow_plaintext=False)
    assert "enc:v1:k1:" in str(moving.sealed(PROVIDER_KEYS, "1", document(PROVIDER_KEYS, VALUE), VALUE).document)
    rings.pop()
    assert "enc:v1:k2:" in str(moving.sealed(PROVIDER_KEYS, "1", document(PROVIDER_KEYS, VALUE), VALUE).document)
