"""Documents made from typed values: in clear, masked, and without noise."""

from datetime import UTC, datetime

from msgspec import json

from aisix_common.resources import API_KEYS, MODELS, PROVIDER_KEYS, ApiKey, check, document, masked

PROVIDER_KEY = {
    "display_name": "x",
    "api_key": "sk-clear",
    "request": {
        "default_headers": {"authorization": "Bearer sk-clear"},
        "default_body_fields": {"token": "sk-clear", "nested": {"a": [None, 1.5]}, "none": None},
    },
}


def test_secrets_come_back_in_clear_for_storing() -> None:
    stored = document(PROVIDER_KEYS, check(PROVIDER_KEYS, PROVIDER_KEY))
    assert stored == {
        **PROVIDER_KEY,
        "provider": "",
        "telemetry_tags": {"featured": False},
        "strip_headers": ["authorization", "cookie", "set-cookie", "x-api-key"],
    }


def test_the_masked_document_keeps_its_shape() -> None:
    shown = masked(PROVIDER_KEYS, check(PROVIDER_KEYS, PROVIDER_KEY))
    assert shown["api_key"] == "***"
    assert shown["request"] == {
        "default_headers": {"authorization": "***"},
        "default_body_fields": {"token": "***", "nested": "***", "none": "***"},
    }
    assert "sk-clear" not in json.encode(shown).decode()


def test_disabled_is_written_only_when_true() -> None:
    key = {"key_hash": "x", "allowed_models": []}
    assert document(API_KEYS, check(API_KEYS, key)) == key
    assert document(API_KEYS, check(API_KEYS, {**key, "disabled": True})) == {**key, "disabled": True}


def test_times_keep_their_moment() -> None:
    row = ApiKey(key_hash="x", allowed_models=(), expires_at=datetime(2030, 1, 31, 12, tzinfo=UTC))
    assert document(API_KEYS, row)["expires_at"] == "2030-01-31T12:00:00Z"


def test_absent_stays_absent() -> None:
    direct = {"display_name": "x", "provider": "a", "model_name": "b", "provider_key_id": "c", "timeout": 0}
    assert document(MODELS, check(MODELS, direct)) == direct


def test_previous_keys_are_written_only_when_there_are_some() -> None:
    key = {"key_hash": "x", "allowed_models": []}
    rotated = {**key, "previous_keys": [{"hash": "y", "until": "2030-01-31T12:00:00Z"}]}
    assert document(API_KEYS, check(API_KEYS, key)) == key
    assert document(API_KEYS, check(API_KEYS, rotated)) == rotated
