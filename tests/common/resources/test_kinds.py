"""The registry of kinds and what schemas derived from it rely on."""

from typing import Any

import msgspec
import pytest

from aisix_common.resources import BY_NAME, KINDS, Kind


def test_the_reference_kinds_are_all_known() -> None:
    assert set(BY_NAME) == {
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


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_optional_fields_say_whether_they_take_null(kind: Kind[Any]) -> None:
    for struct in kind.structs:
        for field in msgspec.inspect.type_info(struct).fields:  # type: ignore[attr-defined]
            takes_null = isinstance(field.type, msgspec.inspect.UnionType) and any(
                isinstance(each, msgspec.inspect.NoneType) for each in field.type.types
            )
            assert takes_null <= kind.nulls, field.name


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_struct_is_frozen_and_closed(kind: Kind[Any]) -> None:
    for struct in kind.structs:
        assert struct.__struct_config__.frozen
        assert struct.__struct_config__.forbid_unknown_fields
        assert not struct.__struct_config__.gc
        assert kind.name_field is None or kind.name_field in struct.__struct_fields__
    fields = {name for struct in kind.structs for name in (*struct.__struct_fields__, "kind")}
    assert set(kind.destinations) <= fields
    assert set(kind.renamed.values()) | kind.terse <= fields
