"""MCP servers beyond the table: defaults, all problems at once, and specs that stay as they are."""

import pytest
from msgspec import json

from aisix_common.resources import MCP_SERVERS, Loaded, Refused, Rejected, check, document, read
from aisix_common.resources.mcp_servers import DEEPEST_SPEC


def test_defaults() -> None:
    server = check(MCP_SERVERS, {"display_name": "a", "url": "https://a"})
    assert (server.name, server.type, server.transport, server.auth_type) == ("a", "mcp", "streamable_http", "none")
    assert server.enabled


def test_all_that_is_missing_is_named() -> None:
    with pytest.raises(Refused) as refused:
        check(MCP_SERVERS, {"name": "a", "url": "https://a", "type": "openapi", "auth_type": "oauth2"})
    assert [flaw.pointer for flaw in refused.value.flaws] == ["/", "/secret", "/client_id", "/token_url"]


def test_a_spec_stays_as_it_is() -> None:
    spec = {"openapi": "3.1.0", "x": None, "y": [None, {"z": None}], "$n": 1.5}
    row = {"name": "a", "url": "https://a", "type": "openapi", "spec": spec}
    assert document(MCP_SERVERS, check(MCP_SERVERS, row))["spec"] == spec


@pytest.mark.parametrize("depth", [50, 200, 900])
def test_a_spec_has_a_bottom(depth: int) -> None:
    row = b'{"name":"a","url":"https://a","type":"openapi","spec":{"x":' + b"[" * depth + b"]" * depth + b"}}"
    outcome = read(MCP_SERVERS, row)
    if depth > DEEPEST_SPEC:
        assert isinstance(outcome, Rejected)
    else:
        assert isinstance(outcome, Loaded)
        assert json.encode(document(MCP_SERVERS, outcome.value)["spec"]).count(b"[") == depth


def test_a_secret_goes_to_more_than_the_url() -> None:
    assert {"url", "token_url", "type", "auth_type"} <= set(MCP_SERVERS.destinations)
