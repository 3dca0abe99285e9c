"""How a resources file is laid out: its collections, what names an entry, and the ids made of that.

An id is a function of kind and name alone, so two gateways with one file agree on it, and so does the next reload.
"""

import json
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID, uuid5

from aisix_common.resources.flaw import LONGEST_NAME

VERSION_FIELD: Final = "_format_version"
VERSION: Final = "1"

COLLECTIONS: Final = (
    "provider_keys",
    "models",
    "api_keys",
    "guardrails",
    "mcp_servers",
    "a2a_agents",
    "cache_policies",
    "observability_exporters",
    "rate_limit_policies",
    "oidc_providers",
    "claim_mappings",
    "passthrough_routes",
    "mcp_auth_settings",
)
"""The kinds a file can hold. `guardrail_attachments` and `mcp_policies` have none."""

SINGLETON: Final = "mcp_auth_settings"

NAMESPACE: Final = UUID("63e50ab2-677a-54d3-8d1e-c0cb29ceae94")
"""UUIDv5 of the URL https://github.com/api7/aisix#resources-file."""

_BY_NAME: Final = ("name",)
_IDENTITY: Final[Mapping[str, tuple[str, ...]]] = {
    "provider_keys": ("display_name",),
    "models": ("display_name",),
    "api_keys": ("display_name",),
    "mcp_servers": ("name", "display_name"),
    "a2a_agents": ("name", "display_name"),
    "passthrough_routes": ("name", "display_name"),
}


def identity_fields(kind: str) -> tuple[str, ...]:
    """The fields that name an entry: the first that is there counts. Empty: there is only one entry."""
    return () if kind == SINGLETON else _IDENTITY.get(kind, _BY_NAME)


def identity_of(kind: str, document: Mapping[str, Any]) -> Any:
    """What the entry is called, as it stands there (perhaps no text at all); None where it says nothing."""
    if kind == SINGLETON:
        return SINGLETON
    return next((document[field] for field in identity_fields(kind) if field in document), None)


def row_id(kind: str, identity: str) -> str:
    """The id of the row that an entry makes."""
    return str(uuid5(NAMESPACE, f"{kind}/{identity}"))


def quoted(identity: str) -> str:
    """An identity as messages show it, on one line and not for ever long."""
    shown = identity if len(identity) <= LONGEST_NAME else identity[:LONGEST_NAME] + "..."
    return json.dumps(shown, ensure_ascii=not shown.isprintable())
