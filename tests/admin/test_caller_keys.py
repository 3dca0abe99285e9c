"""Caller keys at the door, without HTTP; the refusals are in api/test_collection.py."""

import pytest

from aisix_admin.auth import AdminKeys
from aisix_admin.caller_keys import admit, new_key
from aisix_common.resources import hash_key
from aisix_common.secret import Secret

ADMIN = AdminKeys([Secret("admin")])
VECTOR = "91ed2dbc407561556f3e7be98ba0bd2a57986d6a868c482d867d19c6d40d201c"


def test_the_hash_is_the_one_the_proxy_looks_up() -> None:
    assert hash_key("sk-my-api-key-123") == VECTOR
    assert admit({"key": " sk-my-api-key-123\n"}, ADMIN).document == {"key_hash": VECTOR}, "trimmed as the proxy does"


def test_made_keys_are_long_and_never_the_same() -> None:
    made = {new_key().reveal() for _ in range(100)}
    assert len(made) == 100
    assert all(key.startswith("sk-") and len(key) == 51 for key in made)


def test_a_key_is_made_only_where_there_is_none() -> None:
    admitted = admit({"allowed_models": []}, ADMIN, make=lambda: Secret("sk-made"))
    assert admitted.document == {"allowed_models": [], "key_hash": hash_key("sk-made")}
    assert admitted.plaintext == Secret("sk-made") and "sk-made" not in repr(admitted)
    for document in ({"key": "sk-x"}, {"key_hash": VECTOR}):
        assert admit(document, ADMIN, make=lambda: Secret("sk-made")).plaintext is None
    assert admit({}, ADMIN).document == {}, "a PUT makes none: the schema says what is missing"


def test_what_was_sent_is_left_alone() -> None:
    sent = {"key": "sk-x"}
    admit(sent, ADMIN)
    assert sent == {"key": "sk-x"}


@pytest.mark.parametrize("document", [{"key": "admin"}, {"key_hash": hash_key("admin")}])
def test_an_admin_key_is_no_caller_key(document: dict[str, str]) -> None:
    assert ["admin key" in flaw.reason for flaw in admit(document, ADMIN).flaws] == [True]


@pytest.mark.parametrize("value", ["A" * 64, "$secret://vault/hash", "short"])
def test_what_is_stored_may_stay(value: str) -> None:
    assert not admit({"key_hash": value}, ADMIN, stored=value).flaws
    assert bool(admit({"key_hash": value}, ADMIN, stored=VECTOR).flaws) != value.startswith("$")


def test_a_key_of_the_past_is_no_admin_key_either() -> None:
    previous = [{"hash": VECTOR, "until": "x"}, {"hash": hash_key("admin"), "until": "x"}]
    for document in ({"key_hash": VECTOR}, {"key": "sk-x"}, {}):
        (flaw,) = admit({**document, "previous_keys": previous}, ADMIN).flaws
        assert flaw.at == ("previous_keys", 1, "hash") and "admin key" in flaw.reason


@pytest.mark.parametrize("previous", [None, "x", {"hash": "x"}, ["x", None, {}, {"hash": 5}]])
def test_keys_of_the_past_of_another_shape_are_left_to_the_schema(previous: object) -> None:
    admitted = admit({"key_hash": VECTOR, "previous_keys": previous}, ADMIN)
    assert not admitted.flaws and admitted.document["previous_keys"] == previous


@pytest.mark.parametrize("key", [5, None, "", "  ", "x" * 5000, "a b", "\u00e9", "a\x00b"])
def test_what_no_client_can_present_is_no_key(key: object) -> None:
    admitted = admit({"key": key}, ADMIN)
    assert [flaw.at for flaw in admitted.flaws] == [("key",)]
    assert "key" not in admitted.document and admitted.document["key_hash"] == "0" * 64


def test_both_a_key_and_a_hash_are_one_too_many() -> None:
    admitted = admit({"key": "sk-x", "key_hash": "short"}, ADMIN)
    assert [flaw.at for flaw in admitted.flaws] == [("key",), ("key_hash",)]


@pytest.mark.parametrize(
    "text", ["$secret://vault/api-key-path/my-key", " $SECRET://vault/x/y\n", "$ENV://AISIX_SECRET_K"]
)
def test_a_key_that_is_a_reference_is_stored_as_one_and_never_hashed(text: str) -> None:
    for document in ({"key": text}, {"key_hash": text.strip()}):
        admitted = admit(document, ADMIN)
        assert not admitted.flaws and admitted.document == {"key_hash": text.strip()}
    assert next(flaw.at for flaw in admit({"key": text, "key_hash": text}, ADMIN).flaws) == ("key",)


@pytest.mark.parametrize("document", [{"key": "sk-x"}, {"key_hash": VECTOR}])
def test_a_key_of_the_past_is_no_reference(document: dict[str, str]) -> None:
    previous = [{"hash": "$secret://vault/main/a/k", "until": "x"}]
    (flaw,) = admit({**document, "previous_keys": previous}, ADMIN).flaws
    assert flaw.at == ("previous_keys", 0, "hash") and "only `key_hash`" in flaw.reason
