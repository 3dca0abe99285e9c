"""One good document for every kind, and the rows it refers to: what tests write that are about something else.

SET holds them in an order in which each refers only to those before it. `CHANGED` is a harmless edit of each.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

SECRET: Final = "sk-canary-provider-credential-9d2e"
HEADER: Final = "canary-header-value-61b0"
FIELD: Final = "canary-body-field-44af"
MCP_SECRET: Final = "canary-mcp-secret-5be1"
AGENT_SECRET: Final = "canary-agent-secret-20f7"
GUARD_SECRET: Final = "canary-guardrail-secret-88d3"
EXPORT_HEADER: Final = "canary-otlp-header-93aa"
CANARIES: Final = (SECRET, HEADER, FIELD, MCP_SECRET, AGENT_SECRET, GUARD_SECRET, EXPORT_HEADER)


@dataclass(frozen=True, slots=True)
class Sample:
    """A document of a kind, and a change to it that keeps its secrets where they go."""

    kind: str
    document: Mapping[str, Any]
    changed: Mapping[str, Any]
    name: str | None = "name"
    """The field that is unique, if any."""

    @property
    def member(self) -> dict[str, Any]:
        """As a member of a set, under the id `<kind>-1`."""
        return {"kind": self.kind, "id": f"{self.kind}-1", "value": dict(self.document)}


SET: Final = (
    Sample(
        "provider_keys",
        {
            "display_name": "openai",
            "api_key": SECRET,
            "api_base": "https://api.example.com/v1",
            "request": {"default_headers": {"x-team": HEADER}, "default_body_fields": {"user": {"name": FIELD}}},
            "tls": {"verify": True},
        },
        {"strip_headers": ["cookie"]},
        "display_name",
    ),
    Sample(
        "models",
        {
            "display_name": "gpt",
            "provider": "openai",
            "model_name": "gpt-4o",
            "provider_key_id": "provider_keys-1",
            "timeout": 0,
            "rate_limit": {"rpm": 5},
            "cost": {"input_per_1k": 0.5, "output_per_1k": 1},
        },
        {"model_name": "gpt-4.1"},
        "display_name",
    ),
    Sample(
        "api_keys",
        {
            "key_hash": hashlib.sha256(b"sk-somebody").hexdigest(),
            "allowed_models": ["gpt", "claude-*"],
            "display_name": "Somebody",
            "team_id": "team",
            "expires_at": "2030-01-31T12:00:00Z",
            "mcp_rate_limits": {"files": {"rpm": 1}},
        },
        {"allowed_models": []},
        "key_hash",
    ),
    Sample(
        "guardrails",
        {
            "name": "lakera",
            "kind": "lakera",
            "api_key": GUARD_SECRET,
            "endpoint": "https://api.lakera.example.com",
            "fail_open": False,
        },
        {"enabled": False},
    ),
    Sample(
        "cache_policies",
        {"name": "cache", "ttl_seconds": 60, "applies_to": "model:gpt"},
        {"ttl_seconds": 61},
    ),
    Sample(
        "observability_exporters",
        {
            "name": "otlp",
            "kind": "otlp_http",
            "endpoint": "https://otlp.example.com/v1/logs",
            "headers": {"authorization": EXPORT_HEADER},
        },
        {"sample_rate": 0.5},
    ),
    Sample(
        "rate_limit_policies",
        {"name": "policy", "scope": "model", "scope_ref": "models-1", "window": "minute", "max_requests": 5},
        {"max_requests": 6},
    ),
    Sample(
        "oidc_providers",
        {"name": "okta", "issuer": "https://okta.example.com", "audiences": ["aisix"]},
        {"leeway_secs": 30},
    ),
    Sample(
        "claim_mappings",
        {
            "name": "mapping",
            "jwt_provider": "okta",
            "match": [{"claim": "groups", "op": "contains", "values": ["ai"]}],
            "resolve": {"api_key_id": "api_keys-1"},
        },
        {"priority": 3},
    ),
    Sample(
        "mcp_servers",
        {"name": "files", "url": "https://mcp.example.com", "auth_type": "bearer", "secret": MCP_SECRET},
        {"timeout_ms": 5},
    ),
    Sample(
        "mcp_policies", {"scope": "team", "scope_ref": "team", "allow": ["files__*"]}, {"deny": ["files__rm"]}, None
    ),
    Sample(
        "a2a_agents",
        {"name": "agent", "url": "https://agent.example.com", "auth_type": "api_key", "secret": AGENT_SECRET},
        {"timeout_ms": 5},
    ),
    Sample(
        "passthrough_routes",
        {
            "name": "route",
            "path_prefix": "/vendor",
            "target_url": "https://vendor.example.com",
            "provider_key_id": "provider_keys-1",
        },
        {"timeout_ms": 5},
    ),
    Sample(
        "guardrail_attachments",
        {"guardrail_id": "guardrails-1", "scope_type": "model", "scope_id": "models-1", "priority": 1},
        {"priority": -1},
        None,
    ),
    Sample(
        "mcp_auth_settings",
        {
            "resource_url": "https://gateway.example.com/mcp",
            "anonymous": {"api_key_id": "api_keys-1", "source_cidrs": ["10.0.0.0/8"], "servers": ["files"]},
        },
        {"resource_url": "https://other.example.com/mcp"},
        None,
    ),
)
SAMPLES: Final = {sample.kind: sample for sample in SET}


def needed(kind: str) -> list[dict[str, Any]]:
    """The members of a set that must exist before the sample of `kind` can be written."""
    return [sample.member for sample in SET[: [sample.kind for sample in SET].index(kind)]]
