"""Hashes of caller keys."""

from aisix_common.resources import ApiKey, hash_key


def test_check_vector() -> None:
    assert hash_key("sk-my-api-key-123") == "91ed2dbc407561556f3e7be98ba0bd2a57986d6a868c482d867d19c6d40d201c"


def test_white_space_around_a_key_does_not_count() -> None:
    assert hash_key(" sk-a\t\n") == hash_key("sk-a")


def test_text_beyond_utf8_is_hashed_too() -> None:
    assert len(hash_key("sk-\udcff\ud800")) == 64


def test_a_hash_is_not_shown_by_repr() -> None:
    assert "beef" not in repr(ApiKey(key_hash="beef", allowed_models=()))
