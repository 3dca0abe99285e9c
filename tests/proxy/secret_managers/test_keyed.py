"""Secrets that hold several, and the key behind the name."""

import pytest

from aisix_proxy.secret_managers.base import NoSuchSecret
from aisix_proxy.secret_managers.keyed import decoded, part, split


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (("openai",), ("openai", None)),
        (("openai", "key"), ("openai", "key")),
        (("openai", "team", "key"), ("openai", "team/key")),
    ],
)
def test_the_first_segment_is_the_name(path: tuple[str, ...], expected: tuple[str, str | None]) -> None:
    assert split(path) == expected


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("sk-1", None, "sk-1"),
        ('{"a": "sk-1"}', None, '{"a": "sk-1"}'),
        ('{"a": "sk-1"}', "a", "sk-1"),
        ('{"a/b": 7}', "a/b", "7"),
    ],
)
def test_a_secret_is_found(text: str, key: str | None, expected: str) -> None:
    assert part(text, key).reveal() == expected


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ("", None, "is empty"),
        ("sk-canary", "a", "does not hold a JSON object"),
        ('["sk-canary"]', "a", "does not hold a JSON object"),
        ('{"b": "sk-canary"}', "a", "with a value under this key"),
        ('{"a": "", "b": "sk-canary"}', "a", "with a value under this key"),
    ],
)
def test_there_is_no_such_secret(text: str, key: str | None, says: str) -> None:
    with pytest.raises(NoSuchSecret, match=says) as caught:
        part(text, key)
    assert "canary" not in str(caught.value)


def test_bytes_are_text_or_no_secret() -> None:
    assert decoded("schlüssel".encode()) == "schlüssel"
    with pytest.raises(NoSuchSecret, match="not UTF-8"):
        decoded(b"\xff\xfe")
