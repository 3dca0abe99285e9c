"""The resources of the gateway: one module per kind, and the registry of kinds (design 6).

Reads are lenient (`read`), writes are strict (`check`); both hold the one Struct of the kind against the document.
Adding a kind: one module, one line in KINDS, and its cases in tests/common/resources/cases.
"""

from typing import Any, Final

from aisix_common.registry import index

from .a2a_agents import A2A_AGENTS, A2aAgent
from .api_keys import API_KEYS, ApiKey, PreviousKey, hash_key
from .cache_policies import CACHE_POLICIES, CachePolicy
from .checking import check
from .claim_mappings import CLAIM_MAPPINGS, ClaimMapping
from .documents import document, masked
from .flaw import Flaw, Refused
from .guardrail_attachments import GUARDRAIL_ATTACHMENTS, GuardrailAttachment
from .guardrails import GUARDRAILS, Guardrail
from .kind import Kind
from .mcp_auth_settings import MCP_AUTH_SETTINGS, McpAuthSettings
from .mcp_policies import MCP_POLICIES, McpPolicy
from .mcp_servers import MCP_SERVERS, McpServer
from .models import MODELS, Model
from .observability_exporters import OBSERVABILITY_EXPORTERS, ObservabilityExporter
from .oidc_providers import OIDC_PROVIDERS, OidcProvider
from .passthrough_routes import PASSTHROUGH_ROUTES, PassthroughRoute
from .provider_keys import PROVIDER_KEYS, ProviderKey
from .rate_limit import RateLimit
from .rate_limit_policies import RATE_LIMIT_POLICIES, RateLimitPolicy
from .reading import Loaded, Rejected, read
from .reference import Reference
from .secret_providers import SECRET_PROVIDERS, SecretProvider
from .sensitive import SecretJson

KINDS: Final[tuple[Kind[Any], ...]] = (
    PROVIDER_KEYS,
    MODELS,
    API_KEYS,
    GUARDRAILS,
    GUARDRAIL_ATTACHMENTS,
    CACHE_POLICIES,
    OBSERVABILITY_EXPORTERS,
    RATE_LIMIT_POLICIES,
    MCP_SERVERS,
    MCP_POLICIES,
    A2A_AGENTS,
    OIDC_PROVIDERS,
    CLAIM_MAPPINGS,
    PASSTHROUGH_ROUTES,
    MCP_AUTH_SETTINGS,
)

"""What lies under the resource root: the kinds that other gateways know, too."""

EXTERNAL_KINDS: Final[tuple[Kind[Any], ...]] = (SECRET_PROVIDERS,)
"""What lies under the ext root: kinds of ours (design 5)."""

ALL_KINDS: Final = (*KINDS, *EXTERNAL_KINDS)
BY_NAME: Final = index(ALL_KINDS, lambda kind: kind.name)

__all__ = [
    "A2A_AGENTS",
    "ALL_KINDS",
    "API_KEYS",
    "BY_NAME",
    "CACHE_POLICIES",
    "CLAIM_MAPPINGS",
    "EXTERNAL_KINDS",
    "GUARDRAILS",
    "GUARDRAIL_ATTACHMENTS",
    "KINDS",
    "MCP_AUTH_SETTINGS",
    "MCP_POLICIES",
    "MCP_SERVERS",
    "MODELS",
    "OBSERVABILITY_EXPORTERS",
    "OIDC_PROVIDERS",
    "PASSTHROUGH_ROUTES",
    "PROVIDER_KEYS",
    "RATE_LIMIT_POLICIES",
    "SECRET_PROVIDERS",
    "A2aAgent",
    "ApiKey",
    "CachePolicy",
    "ClaimMapping",
    "Flaw",
    "Guardrail",
    "GuardrailAttachment",
    "Kind",
    "Loaded",
    "McpAuthSettings",
    "McpPolicy",
    "McpServer",
    "Model",
    "ObservabilityExporter",
    "OidcProvider",
    "PassthroughRoute",
    "PreviousKey",
    "ProviderKey",
    "RateLimit",
    "RateLimitPolicy",
    "Reference",
    "Refused",
    "Rejected",
    "SecretJson",
    "SecretProvider",
    "check",
    "document",
    "hash_key",
    "masked",
    "read",
]
