"""Cache policies beyond the table: defaults, and what writers may write although nobody knows it."""

from aisix_common.resources import CACHE_POLICIES, check, document


def test_defaults() -> None:
    assert document(CACHE_POLICIES, check(CACHE_POLICIES, {"name": "c"})) == {
        "name": "c",
        "enabled": True,
        "backend": "memory",
        "ttl_seconds": 3600,
        "applies_to": "all",
        "scope": "api_key",
        "purge_generation": 0,
    }


def test_what_nobody_knows_is_taken_and_left_out() -> None:
    semantic = {"embedding_model": "e", "threshold": 1, "new": 1}
    value = check(CACHE_POLICIES, {"name": "c", "new": {"a": 1}, "semantic": semantic})
    assert value == check(CACHE_POLICIES, {"name": "c", "semantic": {"embedding_model": "e", "threshold": 1}})
