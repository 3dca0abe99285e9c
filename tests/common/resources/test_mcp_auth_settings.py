"""MCP settings beyond the table: defaults."""

from msgspec import UNSET

from aisix_common.resources import MCP_AUTH_SETTINGS, check, document


def test_defaults() -> None:
    assert document(MCP_AUTH_SETTINGS, check(MCP_AUTH_SETTINGS, {})) == {}
    anonymous = {"api_key_id": "k", "source_cidrs": ["::/0"], "servers": ["*"]}
    value = check(MCP_AUTH_SETTINGS, {"anonymous": anonymous})
    assert value.anonymous is not UNSET
    assert (value.anonymous.enabled, value.anonymous.aggregate_entry) == (True, False)
