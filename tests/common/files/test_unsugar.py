"""Ids back to names where the id is part of something else, and ids of rows that are not there."""

from aisix_common.files.layout import row_id
from aisix_common.files.unsugar import Identities, unsugared

IDENTITIES = {"api_keys": {"old": "k"}, "provider_keys": {}}
K = row_id("api_keys", "k")


def test_ids_without_sugar_become_those_of_the_file() -> None:
    identities = Identities(IDENTITIES)
    assert unsugared("cache_policies", {"applies_to": "api_key:old"}, identities) == {"applies_to": f"api_key:{K}"}
    assert unsugared("cache_policies", {"applies_to": "model:old"}, identities) == {"applies_to": "model:old"}
    settings = {"anonymous": {"api_key_id": "old", "servers": ["a"]}}
    assert unsugared("mcp_auth_settings", settings, identities) == {"anonymous": {"api_key_id": K, "servers": ["a"]}}
    assert unsugared("mcp_auth_settings", {"resource_url": "a"}, identities) == {"resource_url": "a"}
    assert identities.dangling == []
    assert identities.knows("api_keys", "k")
    assert not identities.knows("api_keys", "old")


def test_ids_of_nothing_are_left_and_told() -> None:
    identities = Identities(IDENTITIES)
    assert unsugared("models", {"provider_key_id": "gone"}, identities) == {"provider_key_id": "gone"}
    settings = {"anonymous": {"api_key_id": "gone"}}
    assert unsugared("mcp_auth_settings", settings, identities) == settings
    assert identities.dangling == ["provider_key_id", "anonymous.api_key_id"]
