"""What one attempt used: the record that billing and exporters read (data-plane 10.3). Pure values.

`request_id` is minted by us, never the caller's (design 9): events may be counted by distinct request ids.
"""

from typing import Protocol

import msgspec


class UsageEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attempt on a target, or one exchange that failed before any. Zero and empty fields are left out of its JSON,
    except the required ones, which have no default."""

    request_id: str
    occurred_at: str
    """RFC 3339, whole seconds, Z."""
    model_id: str
    api_key_id: str
    prompt_tokens: int
    completion_tokens: int
    upstream_latency_ms: int
    status_code: int
    cost_usd: float
    guardrail_blocked: bool
    attempt_index: int
    requested_model: str = ""
    cached_prompt_tokens: int = 0
    reasoning_tokens: int = 0
    cache_creation_tokens: int = 0
    cache_read_tokens: int = 0
    usage_estimated: bool = False
    upstream_ttft_ms: int = 0
    downstream_latency_ms: int = 0
    provider_request_id: str = ""
    provider_model_version: str = ""
    finish_reason: str = ""
    cache_status: str = ""
    inbound_protocol: str = ""
    attempt_kind: str = ""
    attempt_model: str = ""
    error_class: str = ""
    error_message: str = ""
    provider_kind: str = ""
    provider_featured: bool = False
    branded_provider: str = ""
    pk_label: str = ""
    byo_label: str = ""
    auth_type: str = ""
    client_source_ip: str = ""
    client_user_agent: str = ""


class UsageSink(Protocol):
    """Takes usage events. Must not block and must not raise: it is called while an exchange settles."""

    def record(self, event: UsageEvent) -> None: ...
