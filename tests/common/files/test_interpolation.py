"""Variables in texts: a table of what becomes of a text, and of what is refused without showing it."""

import math
from typing import Any

import pytest

from aisix_common.files.interpolation import BadText, escaped, interpolated

ENVIRON = {"A": "1", "B": "${A} $$", "EMPTY": "", "AISIX_PROXY__ADDR": "x", "BROKEN": "\udcff"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("${A}", "1"),
        ("x${A}y${A}", "x1y1"),
        ("${B}", "${A} $$"),
        ("$$", "$"),
        ("$${A}", "${A}"),
        ("$$${A}", "$1"),
        ("$A $ A}", "$A $ A}"),
        ("$secret://vault/a", "$secret://vault/a"),
        ("plain", "plain"),
    ],
)
def test_texts(text: str, result: str) -> None:
    assert interpolated(text, ENVIRON) == result
    assert interpolated(escaped(text), {}) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("${NOBODY}", "`NOBODY` is not set, or empty"),
        ("${EMPTY}", "`EMPTY` is not set, or empty"),
        ("${A", "without its `}`"),
        ("${", "without its `}`"),
        ("${}", "empty braces"),
        ("${sk-canary}", "must name an environment variable"),
        ("${${A}}", "without its `}`"),
        ("${AISIX_PROXY__ADDR}", "begins with AISIX_"),
        ("${BROKEN}", "`BROKEN` is not valid UTF-8"),
    ],
)
def test_refused_texts(text: str, reason: str) -> None:
    with pytest.raises(BadText) as refused:
        interpolated({"a": {"b": ["x", text]}}, ENVIRON)
    assert refused.value.at == ("a", "b", 1)
    assert reason in refused.value.reason
    assert "canary" not in refused.value.reason


def test_only_texts_are_touched() -> None:
    value: Any = {"${A}": [1, 1.5, True, None, {"x": "${A}"}]}
    assert interpolated(value, ENVIRON) == {"${A}": [1, 1.5, True, None, {"x": "1"}]}


@pytest.mark.parametrize("number", [math.inf, math.nan])
def test_numbers_that_json_does_not_have(number: float) -> None:
    with pytest.raises(BadText, match="finite"):
        interpolated([number], {})
