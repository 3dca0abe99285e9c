"""The examples of the API's description are documents that it would take."""

import pytest

from aisix_admin import examples
from aisix_admin.auth import AdminKeys
from aisix_admin.decisions import Decisions
from aisix_common.resources import ALL_KINDS, BY_NAME
from aisix_common.secret import Secret

DECISIONS = Decisions(AdminKeys([Secret("admin")]))


@pytest.mark.parametrize("kind", list(BY_NAME))
def test_every_kind_has_a_good_one(kind: str) -> None:
    edit, made = DECISIONS.create(BY_NAME[kind], "id", examples.DOCUMENTS[kind])
    assert edit.stored is not None and made is None


def test_there_are_no_others() -> None:
    assert set(examples.DOCUMENTS) == {kind.name for kind in ALL_KINDS}
    assert {member["kind"] for member in examples.SET["resources"]} <= set(BY_NAME)
