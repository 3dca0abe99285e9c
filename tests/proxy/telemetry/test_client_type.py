"""Naming clients by their User-Agent."""

from aisix_proxy.telemetry.client_type import UNKNOWN, ClientTypes


def test_the_first_rule_that_is_found_names_the_client() -> None:
    types = ClientTypes([("openai/python", "openai-python"), ("python", "python")])
    assert types.of("OpenAI/Python 3.54") == "openai-python"
    assert types.of("python-requests") == "python"
    assert types.of("curl") == UNKNOWN
    assert types.of("curl") == UNKNOWN
    assert ClientTypes([]).of("curl") == UNKNOWN


def test_what_is_remembered_is_bounded() -> None:
    types = ClientTypes([("a", "a")])
    for n in range(3000):
        types.of(f"agent-{n}")
    assert len(types._seen) <= 1024
