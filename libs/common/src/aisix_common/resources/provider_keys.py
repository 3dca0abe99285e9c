"""`provider_keys`: where a provider is and what it accepts as a credential (control-plane 3.3)."""

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from aisix_common.secret import Secret

from .flaw import Flaw
from .kind import Kind
from .scalars import SecretText, Text
from .sensitive import SecretJson

STRIPPED_BY_DEFAULT: Final = ("authorization", "cookie", "set-cookie", "x-api-key")

AdapterName: TypeAlias = Literal["openai", "anthropic", "bedrock", "vertex", "azure-openai"]


class TelemetryTags(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """How usage events name this key."""

    kind: Literal["catalog", "byo"] | None = None
    featured: bool = False
    branded_provider: str | None = None
    pk_label: str | None = None
    byo_label: str | None = None


class ParamConstraints(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Bounds that request parameters are clamped to."""

    temperature_max: float | None = None
    temperature_min: float | None = None


class RequestOverrides(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Changes to what is sent upstream (data-plane 4.0)."""

    param_renames: dict[str, str] | None = None
    param_constraints: ParamConstraints | None = None
    default_headers: dict[str, Secret] | None = None
    """Values may hold `${...}` variables and credentials: sensitive."""
    forward_client_headers: tuple[str, ...] | None = None
    """Patterns of caller headers that pass, one `*` at most."""
    default_body_fields: dict[str, SecretJson] | None = None
    """Set where the caller's body has no such field: sensitive, whatever their shape."""


class ResponseOverrides(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Peculiarities of what comes back."""

    stream_done_marker: Literal["required", "optional", "none"] | None = None
    content_list_to_string: bool = False
    error_envelope: str | None = None
    """Accepted and ignored."""
    reasoning_field: str | None = None


class TlsTrust(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """How the provider's certificate is checked."""

    ca_cert: str | None = None
    """PEM, in place of the system's authorities."""
    verify: bool = True


class ProviderKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One provider account."""

    display_name: Text
    api_key: SecretText
    """The credential; cloud providers expect a JSON text inside. `secret` is its older spelling."""
    api_base: str | None = None
    provider: str = ""
    """The vendor's name; empty: the model row's counts."""
    adapter: AdapterName | None = None
    telemetry_tags: TelemetryTags = TelemetryTags()
    request: RequestOverrides | None = None
    response: ResponseOverrides | None = None
    strip_headers: tuple[str, ...] = STRIPPED_BY_DEFAULT
    """Caller headers that never reach the provider, lower-case. Null is refused even here."""
    tls: TlsTrust | None = None


def rules(value: ProviderKey, strict: bool) -> Sequence[Flaw]:
    """The credential may not be empty: a Secret's length is not seen by its type."""
    return () if value.api_key else (Flaw(("api_key",), "value is shorter than 1 character"),)


def settle(value: ProviderKey) -> tuple[ProviderKey, tuple[str, ...]]:
    """Header names trimmed, in lower case, without empty ones and repetitions, in their order."""
    headers = tuple(dict.fromkeys(tidy for name in value.strip_headers if (tidy := name.strip().lower())))
    if headers == value.strip_headers:
        return value, ()
    return msgspec.structs.replace(value, strip_headers=headers), ()


PROVIDER_KEYS: Final = Kind(
    "provider_keys",
    ProviderKey,
    name_field="display_name",
    nulls=True,
    rules=rules,
    settle=settle,
    renamed={"secret": "api_key"},
    destinations=("api_base", "provider", "adapter", "tls"),
)
