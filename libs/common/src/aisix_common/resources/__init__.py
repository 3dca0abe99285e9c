"""The resources of the gateway: one module per kind, and the registry of kinds (design 6).

Reads are lenient (`read`), writes are strict (`check`); both hold the one Struct of the kind against the document.
Adding a kind: one module, one line in KINDS, and its cases in tests/common/resources/cases.
"""

from typing import Any, Final

from aisix_common.registry import index

from .api_keys import API_KEYS, ApiKey, hash_key
from .checking import check
from .documents import document, masked
from .flaw import Flaw, Refused
from .kind import Kind
from .models import MODELS, Model
from .provider_keys import PROVIDER_KEYS, ProviderKey
from .rate_limit import RateLimit
from .reading import Loaded, Rejected, read
from .sensitive import SecretJson

KINDS: Final[tuple[Kind[Any], ...]] = (
    PROVIDER_KEYS,
    MODELS,
    API_KEYS,
)

BY_NAME: Final = index(KINDS, lambda kind: kind.name)

UNSERVED: Final = frozenset(
    {
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
)
"""Kinds that are known but have no effect yet: their rows are counted, neither rejected nor served."""

__all__ = [
    "API_KEYS",
    "BY_NAME",
    "KINDS",
    "MODELS",
    "PROVIDER_KEYS",
    "UNSERVED",
    "ApiKey",
    "Flaw",
    "Kind",
    "Loaded",
    "Model",
    "ProviderKey",
    "RateLimit",
    "Refused",
    "Rejected",
    "SecretJson",
    "check",
    "document",
    "hash_key",
    "masked",
    "read",
]
