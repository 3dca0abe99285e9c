"""`mcp_auth_settings`: how MCP clients prove who they are (control-plane 3.15). At most one row is meant to exist."""

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from .kind import Kind
from .reference import Reference, by_id, by_name
from .scalars import Text


class AnonymousMcp(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What callers without a credential may, from some addresses."""

    api_key_id: Text
    """The caller key that stands for them."""
    source_cidrs: Annotated[tuple[str, ...], Meta(min_length=1)]
    servers: Annotated[tuple[str, ...], Meta(min_length=1)]
    """Names of MCP servers, or patterns."""
    enabled: bool = True
    aggregate_entry: bool = False


class McpAuthSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """The settings."""

    resource_url: Text | UnsetType = UNSET
    anonymous: AnonymousMcp | UnsetType = UNSET


def references(value: McpAuthSettings) -> Sequence[Reference]:
    """The key and the servers of anonymous callers."""
    if value.anonymous is UNSET:
        return ()
    found = by_id("api_keys", ("anonymous", "api_key_id"), value.anonymous.api_key_id)
    return found + by_name("mcp_servers", ("anonymous", "servers"), value.anonymous.servers)


MCP_AUTH_SETTINGS: Final = Kind(
    "mcp_auth_settings",
    McpAuthSettings,
    name_field=None,
    singleton=True,
    nulls=False,
    references=references,
)
