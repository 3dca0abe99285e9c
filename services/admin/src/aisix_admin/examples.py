"""One good document for each kind, as the API's description shows it. Pure data; a test holds each to its kind."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

_ID: Final = "0b9a2b9e-7c1e-4f5e-9d2a-1f0a3c5e7d11"

DOCUMENTS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "provider_keys": {"display_name": "openai", "provider": "openai", "api_key": "sk-..."},
        "models": {
            "display_name": "fast",
            "provider": "openai",
            "model_name": "gpt-4o-mini",
            "provider_key_id": _ID,
            "rate_limit": {"rpm": 600},
        },
        "api_keys": {"display_name": "team blue", "key": "sk-chosen-by-you", "allowed_models": ["fast", "claude-*"]},
        "guardrails": {
            "name": "no-project-names",
            "kind": "keyword",
            "hook_point": "input",
            "patterns": [{"kind": "literal", "value": "project x"}],
        },
        "guardrail_attachments": {"guardrail_id": _ID, "scope_type": "model", "scope_id": _ID, "priority": 10},
        "cache_policies": {"name": "answers-of-an-hour", "ttl_seconds": 3600, "applies_to": "model:fast"},
        "observability_exporters": {
            "name": "collector",
            "kind": "otlp_http",
            "endpoint": "https://otel.example.com/v1/logs",
            "headers": {"authorization": "Bearer ..."},
        },
        "rate_limit_policies": {
            "name": "office-hours",
            "scope": "model",
            "scope_ref": _ID,
            "window": "minute",
            "max_requests": 100,
        },
        "mcp_servers": {
            "name": "files",
            "url": "https://mcp.example.com/mcp",
            "auth_type": "bearer",
            "secret": "...",
        },
        "mcp_policies": {"scope": "team", "scope_ref": "blue", "allow": ["files__*"], "deny": ["files__delete"]},
        "a2a_agents": {"name": "planner", "url": "https://planner.example.com", "auth_type": "none"},
        "oidc_providers": {"name": "okta", "issuer": "https://okta.example.com", "audiences": ["aisix"]},
        "claim_mappings": {
            "name": "data-team",
            "jwt_provider": "okta",
            "match": [{"claim": "groups", "op": "contains", "values": ["data"]}],
            "resolve": {"api_key_id": _ID},
        },
        "passthrough_routes": {
            "name": "vendor",
            "path_prefix": "/vendor",
            "target_url": "https://api.vendor.example.com",
            "provider_key_id": _ID,
        },
        "secret_providers": {
            "manager": "vault",
            "name": "main",
            "uri": "https://vault.example.com:8200",
            "mount": "secret",
            "auth": {"method": "kubernetes", "role": "aisix-proxy"},
        },
        "mcp_auth_settings": {"resource_url": "https://gateway.example.com/mcp"},
    }
)
SET: Final = {
    "resources": [
        {"kind": "provider_keys", "id": _ID, "value": DOCUMENTS["provider_keys"]},
        {"kind": "models", "value": DOCUMENTS["models"]},
    ]
}
PROBLEM: Final = {
    "error_msg": "schema validation failed at /display_name: required field is missing",
    "errors": [{"path": "/display_name", "message": "required field is missing"}],
}
