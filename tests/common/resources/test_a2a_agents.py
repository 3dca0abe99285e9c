"""Agents beyond the table: defaults, and what moves their secret."""

from aisix_common.resources import A2A_AGENTS, check


def test_defaults() -> None:
    agent = check(A2A_AGENTS, {"display_name": "a", "url": "https://a"})
    assert (agent.name, agent.protocol_version, agent.auth_type, agent.enabled) == ("a", "1.0", "none", True)
    assert (agent.secret, agent.timeout_ms) == (None, None)


def test_a_secret_goes_to_the_url() -> None:
    assert "url" in A2A_AGENTS.destinations
