"""Names and ids of entries: the contract's vectors, and what a name looks like in a message."""

from uuid import NAMESPACE_URL, uuid5

import pytest

from aisix_common.files.layout import COLLECTIONS, NAMESPACE, identity_of, quoted, row_id
from aisix_common.resources import KINDS


def test_ids_are_the_contracts() -> None:
    assert row_id("models", "gpt-4o") == "6efd592d-a73b-573d-8e2c-e9e103692f92"
    assert uuid5(NAMESPACE_URL, "https://github.com/api7/aisix#resources-file") == NAMESPACE


def test_every_collection_is_a_kind() -> None:
    assert set(COLLECTIONS) == {kind.name for kind in KINDS} - {"guardrail_attachments", "mcp_policies"}


@pytest.mark.parametrize(
    ("kind", "document", "identity"),
    [
        ("models", {"display_name": "a", "name": "b"}, "a"),
        ("mcp_servers", {"display_name": "a", "name": "b"}, "b"),
        ("mcp_servers", {"display_name": "a"}, "a"),
        ("guardrails", {"display_name": "a"}, None),
        ("guardrails", {"name": 3}, 3),
        ("mcp_auth_settings", {}, "mcp_auth_settings"),
    ],
)
def test_what_names_an_entry(kind: str, document: dict[str, object], identity: object) -> None:
    assert identity_of(kind, document) == identity


def test_a_name_stays_on_its_line() -> None:
    assert quoted("gpt-4o ü") == '"gpt-4o ü"'
    assert quoted('a"b\n\u2028') == '"a\\"b\\n\\u2028"'
    assert quoted("x" * 1000) == '"' + "x" * 128 + '..."'
