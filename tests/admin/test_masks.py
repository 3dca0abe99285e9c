"""Masks in documents, without a store."""

import json
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from aisix_admin.errors import Invalid
from aisix_admin.masks import moved, require_same_destination, restore, secret_paths
from aisix_common.resources import (
    ALL_KINDS,
    GUARDRAILS,
    OBSERVABILITY_EXPORTERS,
    PROVIDER_KEYS,
    Kind,
    check,
    document,
    masked,
)
from aisix_common.secret import MASK

CASES = Path(__file__).parents[1] / "common" / "resources" / "cases"


def test_every_kind_with_secrets_says_where_they_go() -> None:
    """Fails for a new kind until somebody has thought about what moves its secrets."""
    holding = {kind.name for kind in ALL_KINDS if secret_paths(kind.struct)}
    assert holding == {kind.name for kind in ALL_KINDS if kind.destinations}


def test_secret_paths_follow_from_types() -> None:
    assert {kind.name: secret_paths(kind.struct) for kind in ALL_KINDS if secret_paths(kind.struct)} == {
        "provider_keys": {"api_key", "request.default_headers.*", "request.default_body_fields.*"},
        "guardrails": {
            "api_key",
            "access_key_id",
            "access_key_secret",
            "aws_credentials.access_key_id",
            "aws_credentials.secret_access_key",
        },
        "observability_exporters": {"headers.*"},
        "mcp_servers": {"secret"},
        "a2a_agents": {"secret"},
        "secret_providers": {
            *("auth.token", "auth.secret_id"),
            *("access_key_id", "secret_access_key", "session_token"),
            *("client_secret", "service_account", "token"),
        },
    }


def planted(value: Any, at: str = "") -> set[str]:
    """Where a document holds a canary."""
    if isinstance(value, dict):
        return {path for key, item in value.items() for path in planted(item, f"{at}.{key}".removeprefix("."))}
    if isinstance(value, list):
        return {path for item in value for path in planted(item, f"{at}.[]")}
    return {at} if isinstance(value, str) and "sk-canary" in value else set()


SOUND = [
    (kind, case["document"])
    for kind in ALL_KINDS
    if kind.destinations
    for case in json.loads((CASES / f"{kind.name}.json").read_bytes())
    if case.get("strict", "ok") == "ok"
]


def test_the_table_has_a_canary_in_every_secret() -> None:
    for kind in ALL_KINDS:
        found = {path for each, row in SOUND if each is kind for path in planted(row)}
        for path in secret_paths(kind.struct):
            assert any(fnmatch(each, path) for each in found), f"{kind.name}: {path}"


@pytest.mark.parametrize(("kind", "row"), SOUND)
def test_what_is_shown_and_sent_back_keeps_every_secret(kind: Kind[Any], row: dict[str, Any]) -> None:
    stored = check(kind, row)
    sent = restore(kind, masked(kind, stored), document(kind, stored))
    assert check(kind, sent.document) == stored
    assert not sent.missing
    again = restore(kind, masked(kind, stored), None)
    assert len(again.missing) == len(sent.kept)


def test_another_member_is_another_addressee_even_without_an_address() -> None:
    lakera = check(GUARDRAILS, {"name": "g", "kind": "lakera", "api_key": "k"})
    sent = restore(
        GUARDRAILS, {"name": "g", "kind": "openai_moderation", "api_key": MASK}, document(GUARDRAILS, lakera)
    )
    with pytest.raises(Invalid, match="`kind` changes"):
        require_same_destination(GUARDRAILS, sent.kept, lakera, check(GUARDRAILS, sent.document))


def test_a_row_that_becomes_another_thing_takes_no_secret_along() -> None:
    azure = check(GUARDRAILS, {"name": "g", "kind": "azure_content_safety", "endpoint": "https://a", "api_key": "k"})
    lakera = {"name": "g", "kind": "lakera", "endpoint": "https://a", "api_key": MASK}
    sent = restore(GUARDRAILS, lakera, document(GUARDRAILS, azure))
    new = check(GUARDRAILS, sent.document)
    assert moved(GUARDRAILS, azure, new) == ["kind"]
    with pytest.raises(Invalid):
        require_same_destination(GUARDRAILS, sent.kept, azure, new)


def test_what_a_member_does_not_have_has_not_moved() -> None:
    openai = check(GUARDRAILS, {"name": "g", "kind": "openai_moderation", "api_key": "k"})
    there = check(GUARDRAILS, {"name": "g", "kind": "openai_moderation", "api_key": "k", "endpoint": "https://a"})
    assert moved(GUARDRAILS, openai, openai) == []
    assert moved(GUARDRAILS, openai, there) == ["endpoint"]


def test_headers_are_kept_one_by_one() -> None:
    row = {"name": "o", "kind": "otlp_http", "endpoint": "https://a", "headers": {"x": MASK, "y": MASK}}
    result = restore(OBSERVABILITY_EXPORTERS, row, {**row, "headers": {"x": "1"}})
    assert result.document["headers"] == {"x": "1", "y": MASK}
    assert [flaw.pointer for flaw in result.missing] == ["/headers/y"]


def test_a_union_of_nobody_is_left_to_the_schema() -> None:
    for sent in ({"kind": "fax", "api_key": MASK}, {"api_key": MASK}, {"kind": [MASK]}):
        assert restore(GUARDRAILS, sent, {"kind": "lakera", "api_key": "k"}).document == sent


def test_masks_take_what_lies_at_the_same_place() -> None:
    stored = {"display_name": "a", "api_key": "k", "request": {"default_headers": {"x": "1", "y": "2"}}}
    sent = {"display_name": MASK, "api_key": MASK, "request": {"default_headers": {"x": "new", "y": MASK}}}
    result = restore(PROVIDER_KEYS, sent, stored)
    assert result.document == {
        "display_name": MASK,  # no secret: the text itself
        "api_key": "k",
        "request": {"default_headers": {"x": "new", "y": "2"}},
    }
    assert result.kept == [("api_key",), ("request", "default_headers", "y")]
    assert result.missing == []


def test_masks_with_nothing_behind_them() -> None:
    sent = {"api_key": MASK, "request": {"default_headers": {"x": MASK}, "default_body_fields": {"y": MASK}}}
    pointers = {flaw.pointer for flaw in restore(PROVIDER_KEYS, sent, None).missing}
    assert pointers == {"/api_key", "/request/default_headers/x", "/request/default_body_fields/y"}


@pytest.mark.parametrize("sent", [{"request": MASK}, {"request": {"default_headers": MASK}}, {"api_key": [MASK]}, {}])
def test_shapes_that_are_wrong_are_left_to_the_schema(sent: dict[str, object]) -> None:
    assert restore(PROVIDER_KEYS, sent, {"api_key": "k"}).document == sent


def test_a_kept_secret_stays_where_it_is() -> None:
    old = check(PROVIDER_KEYS, {"display_name": "a", "api_key": "k", "api_base": "https://here"})
    new = check(PROVIDER_KEYS, {"display_name": "a", "api_key": "k", "api_base": "https://there"})
    require_same_destination(PROVIDER_KEYS, [], old, new)
    require_same_destination(PROVIDER_KEYS, [("api_key",)], old, old)
    with pytest.raises(Invalid) as refused:
        require_same_destination(PROVIDER_KEYS, [("api_key",)], old, new)
    assert "`api_base`" in refused.value.message and "there" not in refused.value.message.replace("where", "")
