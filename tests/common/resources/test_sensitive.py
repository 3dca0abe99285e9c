"""Sensitive JSON values keep their shape inside and show nothing outside."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisix_common.resources import SecretJson
from aisix_common.resources.sensitive import conceal
from aisix_common.secret import Secret

LEAVES = st.none() | st.booleans() | st.integers() | st.text()
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5)


@given(VALUES)
def test_any_value_comes_back(value: Any) -> None:
    assert SecretJson.of(value).value() == value


def test_it_shows_nothing_and_compares_by_content() -> None:
    hidden = SecretJson.of({"token": "sk-canary"})
    assert "sk-canary" not in f"{hidden} {hidden!r}"
    assert hidden == SecretJson.of({"token": "sk-canary"})
    assert hidden != SecretJson.of({"token": "other"})


def test_only_text_becomes_a_secret() -> None:
    assert conceal(Secret, "x") == Secret("x")
    with pytest.raises(ValueError, match="Expected"):
        conceal(Secret, 5)
    with pytest.raises(NotImplementedError):
        conceal(int, 5)
