"""The registry of kinds and what schemas derived from it rely on."""

from typing import Any

import msgspec
import pytest

from aisix_common.resources import ALL_KINDS, BY_NAME, EXTERNAL_KINDS, KINDS, Kind


def test_the_reference_kinds_are_all_known() -> None:
    assert {kind.name for kind in KINDS} == {
        "models",
        "api_keys",
        "provider_keys",
        "guardrails",
        "guardrail_attachments",
        "cache_policies",
        "observability_exporters",
        "rate_limit_policies",
        "mcp_servers",
        "mcp_policies",
        "a2a_agents",
        "oidc_providers",
        "claim_mappings",
        "passthrough_routes",
        "mcp_auth_settings",
    }


def test_kinds_of_ours_lie_elsewhere() -> None:
    assert {kind.name for kind in EXTERNAL_KINDS} == {"secret_providers"}
    assert all(kind.external for kind in EXTERNAL_KINDS)
    assert not any(kind.external for kind in KINDS)
    assert list(BY_NAME.values()) == [*KINDS, *EXTERNAL_KINDS]


@pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: kind.name)
def test_optional_fields_say_whether_they_take_null(kind: Kind[Any]) -> None:
    for struct in kind.structs:
        for field in msgspec.inspect.type_info(struct).fields:  # type: ignore[attr-defined]
            takes_null = isinstance(field.type, msgspec.inspect.UnionType) and any(
                isinstance(each, msgspec.inspect.NoneType) for each in field.type.types
            )
            assert takes_null <= kind.nulls, field.name


@pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: kind.name)
def test_every_struct_is_frozen_and_closed(kind: Kind[Any]) -> None:
    for struct in kind.structs:
        assert struct.__struct_config__.frozen
        assert struct.__struct_config__.forbid_unknown_fields
        assert not struct.__struct_config__.gc
        assert kind.name_field is None or hasattr(struct, kind.name_field)
        assert kind.label_field is None or kind.label_field in struct.__struct_fields__
    fields = {name for struct in kind.structs for name in (*struct.__struct_fields__, "kind")}
    assert set(kind.destinations) <= fields
    assert set(kind.renamed.values()) | kind.terse <= fields
