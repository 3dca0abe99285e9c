"""YAML text: whatever is written reads back as itself, in our reader and in PyYAML's of YAML 1.1."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from aisix_common.files.loader import plain
from aisix_common.files.writing import scalar, written
from aisix_common.yaml12 import load

_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(allow_nan=False, allow_infinity=False), st.text()
)
_KEYS = st.text(max_size=20)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4), max_leaves=20
)


@given(st.dictionaries(_KEYS, _VALUES, min_size=1, max_size=4))
def test_it_reads_back(document: dict[str, Any]) -> None:
    text = written(document)
    assert load(text, plain) == document
    assert text.startswith("---\n") and text.endswith("\n")


@pytest.mark.parametrize(
    "text", ["yes", "22:00", "2024-01-01", "0o17", "1e5", "1_000", "null", "~", "", "True", "=", "<<", "012", "0x1F"]
)
def test_what_looks_like_something_else_is_quoted(text: str) -> None:
    assert scalar(text) == f'"{text}"'
    assert yaml.safe_load(scalar(text)) == text


def test_the_look() -> None:
    document = {"v": "1", "models": [{"name": "a", "tags": ["x", "z"], "none": [], "map": {}}, {"deep": {"er": [[1]]}}]}
    assert written(document) == (
        '---\nv: "1"\nmodels:\n- name: a\n  tags:\n  - x\n  - z\n  none: []\n  map: {}\n- deep:\n    er:\n    - - 1\n'
    )
