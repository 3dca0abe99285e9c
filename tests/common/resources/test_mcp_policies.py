"""MCP policies beyond the table: what readers fill in, and writers have to say."""

import pytest
from msgspec import json

from aisix_common.resources import MCP_POLICIES, Loaded, Refused, check, read


def test_allow_is_needed_by_writers_only() -> None:
    outcome = read(MCP_POLICIES, json.encode({"scope": "env"}))
    assert isinstance(outcome, Loaded)
    assert (outcome.value.allow, outcome.value.deny, outcome.value.enabled) == ((), (), True)
    with pytest.raises(Refused):
        check(MCP_POLICIES, {"scope": "env"})
