"""Token counts as tiktoken makes them, with the fixed costs of a chat prompt."""

import pytest

from aisix_proxy.canonical.request import Message
from aisix_proxy.telemetry.tokens import count_prompt, count_text, encoding_for


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4o-mini", "GPT-4.1-nano", "gpt-5", "o1", "o3-mini", "openai/o4-mini"])
def test_newer_models_use_o200k(model: str) -> None:
    assert encoding_for(model) == "o200k_base"


@pytest.mark.parametrize("model", ["gpt-4", "gpt-4-turbo", "gpt-3.5-turbo", "llama-3", "o1000", "olmo", ""])
def test_all_others_use_cl100k(model: str) -> None:
    assert encoding_for(model) == "cl100k_base"


@pytest.mark.parametrize(
    ("text", "model", "tokens"),
    [
        ("", "gpt-4", 0),
        ("hello world", "gpt-4", 2),
        ("hello world", "gpt-4o", 2),
        ("<|endoftext|>", "gpt-4", 7),
        ("日本語", "gpt-4", 4),
    ],
)
def test_text(text: str, model: str, tokens: int) -> None:
    assert count_text(text, model) == tokens


def test_a_lone_surrogate_counts_as_something() -> None:
    assert count_text("\ud800", "gpt-4") > 0


def test_prompt_costs_per_message_name_and_reply() -> None:
    hello = Message(role="user", content="hello world")
    one = 3 + 1 + 2 + 3
    assert count_prompt([hello], "gpt-4") == one
    assert count_prompt([hello, hello], "gpt-4") == one + 3 + 1 + 2
    assert count_prompt([Message(role="user", content="hello world", name="bob")], "gpt-4") == one + 1 + 1
    assert count_prompt([], "gpt-4") == 3


def test_prompt_counts_parts_and_tool_calls() -> None:
    parts = Message(role="user", content=[{"type": "text", "text": "hello"}, {"type": "image_url"}])
    assert count_prompt([parts], "gpt-4") == 3 + 1 + 1 + 3
    call = Message(role="assistant", tool_calls=[{"function": {"name": "hello", "arguments": " world"}}, {}])
    assert count_prompt([call], "gpt-4") == 3 + 1 + 2 + 3
