"""The text view of a message."""

from typing import Any

import pytest

from aisix_proxy.canonical.request import Message


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, ""),
        ("a", "a"),
        ([], ""),
        ([{"type": "text", "text": "a"}, {"type": "image_url", "text": "no"}, {"type": "text", "text": "b"}], "ab"),
        ([{"type": "text"}, {"type": "text", "text": 5}, {}], ""),
    ],
)
def test_text(content: Any, text: str) -> None:
    assert Message(role="user", content=content).text == text
