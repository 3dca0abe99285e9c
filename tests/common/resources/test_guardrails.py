"""Guardrails beyond the table: each kind by its tag, and secrets that `repr` does not show."""

from typing import get_args

import pytest

from aisix_common.resources import GUARDRAILS, Guardrail, check, document
from aisix_common.resources.guardrails import Keyword, Pii

from .cases import Case, load

NESTED = ("categories",)
"""Where defaults are filled in below."""

SOUND = [case for case in load("guardrails") if case.strict == "ok"]


def test_a_row_knows_its_kind() -> None:
    value = check(GUARDRAILS, {"name": "g", "kind": "keyword", "patterns": []})
    assert isinstance(value, Keyword)
    assert value.kind == "keyword"
    assert (value.hook_point, value.fail_open, value.mandatory) == ("both", True, False)
    assert isinstance(check(GUARDRAILS, {"name": "g", "kind": "pii"}), Pii)


def test_the_table_has_every_kind() -> None:
    tags = {each.__struct_config__.tag for each in get_args(Guardrail)}
    assert {case.document["kind"] for case in SOUND} == tags
    assert len(tags) == 11


@pytest.mark.parametrize("case", SOUND, ids=lambda case: case.name)
def test_documents_say_everything_that_was_given(case: Case) -> None:
    stored = document(GUARDRAILS, check(GUARDRAILS, case.document))
    assert {name: stored[name] for name in case.document if name not in NESTED} == {
        name: given for name, given in case.document.items() if name not in NESTED
    }
