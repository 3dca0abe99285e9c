"""`mcp_servers`: MCP servers, and HTTP APIs offered as such (control-plane 3.9)."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from aisix_common.secret import Secret

from .flaw import Flaw
from .kind import Kind
from .scalars import HeaderName, PositiveU64, Text

DEEPEST_SPEC: Final = 100
"""Objects and lists inside of each other; descriptions of real APIs have a third of it."""


class McpServer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One server."""

    name: Annotated[str, Meta(min_length=1, pattern=r"^(?:[^_]|_[^_])*\Z")]
    """Without `__`, which parts it from the tool's name, and without `_` at the end. `display_name`: older spelling."""
    url: Text
    type: Literal["mcp", "openapi"] = "mcp"
    spec: dict[str, Any] | None = None
    """The OpenAPI description the tools are made from."""
    api_key_header: HeaderName | None = None
    transport: Literal["streamable_http"] = "streamable_http"
    auth_type: Literal["none", "bearer", "api_key", "oauth2"] = "none"
    secret: Secret | None = None
    client_id: str | None = None
    token_url: str | None = None
    """Where `secret` is exchanged for a token."""
    scopes: tuple[str, ...] | None = None
    protocol_version: Literal["2026-07-28"] | None = None
    timeout_ms: PositiveU64 | None = None
    enabled: bool = True


def rules(value: McpServer, strict: bool) -> Sequence[Flaw]:
    """What the type of server and the way to authenticate need, and what they exclude."""
    flaws: list[Flaw] = []
    if value.type == "openapi":
        flaws += _openapi(value.spec)
    elif value.spec is not None:
        flaws.append(Flaw(("spec",), "not accepted on an mcp server"))
    if value.api_key_header is not None and (value.type, value.auth_type) != ("openapi", "api_key"):
        flaws.append(Flaw(("api_key_header",), "only accepted on an openapi server with auth_type api_key"))
    if value.auth_type != "none" and not value.secret:
        flaws.append(_needed("secret"))
    if value.auth_type == "oauth2":
        flaws += [_needed(name) for name in ("client_id", "token_url") if not getattr(value, name)]
    return flaws


def _openapi(spec: Mapping[str, Any] | None) -> Sequence[Flaw]:
    if spec is None:
        return [Flaw((), '"spec" is a required property of an openapi server')]
    if "swagger" in spec:
        return [Flaw(("spec",), "Swagger 2.0 is not accepted: give OpenAPI 3")]
    return [Flaw(("spec",), "nested too deeply")] if _too_deep(spec) else ()


def _too_deep(spec: Any) -> bool:
    """Whether code that goes down by calling itself would fall on it. Level by level, so that this does not."""
    level = [spec]
    for _ in range(DEEPEST_SPEC):
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
        level = [each for each in level if isinstance(each, dict | list)]
        if not level:
            return False
    return True


def _needed(name: str) -> Flaw:
    return Flaw((name,), "must be given, and not be empty, with this auth_type")


MCP_SERVERS: Final = Kind(
    "mcp_servers",
    McpServer,
    name_field="name",
    nulls=True,
    rules=rules,
    renamed={"display_name": "name"},
    destinations=("url", "type", "auth_type", "token_url", "api_key_header", "client_id", "transport"),
)
