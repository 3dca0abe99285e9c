"""One model row, compiled: the target an adapter needs, what may be asked of it, and why it cannot be served, if so.

Pure: rows in, a record out. `compiled.py` decides when and keeps the result.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from aisix_common.resources import Model, ProviderKey
from aisix_common.snapshot import Entry

from .canonical.errors import GatewayError, Misconfigured
from .canonical.http import TlsTrust
from .canonical.target import BodyOverrides, HeaderTemplate, Target
from .providers import ADAPTER
from .providers.base import Adapter
from .telemetry.proxy_metrics import UNKNOWN, DeploymentCells, ProxyMetrics

NO_BRIDGE: Final = "no bridge registered for provider"
_VARIABLE: Final = re.compile(r"\$\{([^}]*)\}")
_OWN_BRIDGE: Final = ("openai", "anthropic")
"""Vendors whose name alone decides the wire (data-plane 4.0)."""


class Problem(msgspec.Struct, frozen=True):
    """Why a model cannot be served, in the words its callers get. Raised anew each time: errors carry tracebacks."""

    message: str
    status: int
    type: str
    summary: str
    """The same without names, for counting rows by reason."""

    def error(self) -> GatewayError:
        return Misconfigured(self.message, status=self.status, type=self.type)


class Defaults(msgspec.Struct, frozen=True):
    """The deployment's own deadlines (`upstream` settings), in milliseconds; 0: none."""

    timeout_ms: int
    stream_timeout_ms: int


class CompiledModel:
    """A record compared by identity: a changed row gets a new one, whoever holds the old one goes on with it."""

    __slots__ = (
        "_deployment",
        "adapter",
        "allowed_networks",
        "awaits_first_chunk",
        "entry",
        "key_entry",
        "key_is_out",
        "name",
        "problem",
        "restricted",
        "row",
        "target",
    )

    def __init__(self, entry: Entry[Model], key_entry: Entry[ProviderKey] | None, *, key_is_out: bool = False) -> None:
        model = entry.value
        self.entry = entry
        self.key_entry = key_entry
        self.key_is_out = key_is_out
        self.name = model.display_name
        self.row = object()
        """The same in all records that one state of a wildcard row has for callers' names: what is kept by it is kept
        once for the row, however many names callers make up."""
        cidrs = _given(model.allowed_cidrs) or ()
        self.restricted = bool(cidrs)
        """Only some addresses may use it; with none that can be read, nobody may."""
        self.allowed_networks = _networks(cidrs)
        self.awaits_first_chunk = bool(_given(model.stream_timeout))
        """A stream budget is configured on the model itself: the head waits for the first chunk (data-plane 4.6)."""
        self.problem: Problem | None = None
        self.target: Target | None = None
        self.adapter: Adapter | None = None
        self._deployment: DeploymentCells | None = None

    @property
    def id(self) -> str:
        return self.entry.id

    @property
    def provider(self) -> str:
        return _given(self.entry.value.provider) or UNKNOWN

    @property
    def upstream_model(self) -> str:
        """As it is configured, so a wildcard's star and not what a caller made of it: fit for a label."""
        return _given(self.entry.value.model_name) or UNKNOWN

    def deployment(self, metrics: ProxyMetrics) -> DeploymentCells:
        """The metric cells of its attempts, looked up once."""
        if self._deployment is None:
            target = self.target
            self._deployment = DeploymentCells(
                metrics,
                self.provider,
                self.name,
                self.upstream_model,
                target.provider_key_id if target else UNKNOWN,
            )
        return self._deployment

    def variable(self, scope: str, field: str) -> str | None:
        """`model.id`, `model.name`, `provider_key.id`, `provider_key.name` of header templates (data-plane 4.0)."""
        if scope == "model":
            return {"id": self.id, "name": self.name}.get(field)
        if scope == "provider_key" and self.key_entry is not None:
            return {"id": self.key_entry.id, "name": self.key_entry.value.display_name}.get(field)
        return None


def compile_model(
    entry: Entry[Model], key_entry: Entry[ProviderKey] | None, defaults: Defaults, *, key_is_out: bool = False
) -> CompiledModel:
    """A record for the row; whatever is wrong with it becomes its `problem`, never an exception.

    `key_is_out`: without a `key_entry`, whether there is such a provider key and it is out of service.
    """
    compiled = CompiledModel(entry, key_entry, key_is_out=key_is_out)
    model = entry.value
    if model.shape != "direct":
        compiled.problem = Problem(
            f"model {quoted(model.display_name)} is a {model.shape} model; this gateway serves direct models only",
            501,
            "not_supported",
            f"{model.shape} models are not served by this version",
        )
        return compiled
    if key_entry is None and key_is_out:
        compiled.problem = Problem(
            f"model {quoted(model.display_name)} cannot be served: its provider key is out of service;"
            " the gateway's /status/config tells why",
            503,
            "provider_unavailable",
            "its provider key is out of service",
        )
        return compiled
    if key_entry is None:
        compiled.problem = Problem(
            f"model {quoted(model.display_name)} names a provider key that does not exist;"
            " its provider_key_id must be the id of one",
            400,
            "invalid_request_error",
            "provider_key_id names no provider key",
        )
        return compiled
    adapter = ADAPTER.get(_wire(model, key_entry.value))
    if adapter is None:
        compiled.problem = Problem(
            NO_BRIDGE, 503, "provider_unavailable", "no adapter of this version speaks to the provider"
        )
        return compiled
    try:
        compiled.target = _target(entry, key_entry, adapter, defaults)
        compiled.adapter = adapter
    except Misconfigured as error:
        compiled.problem = Problem(error.message, error.status, error.type, error.message)
    return compiled


def captured(compiled: CompiledModel, text: str) -> CompiledModel:
    """The record of a wildcard row for one name, whose captured `text` stands in for the star of `model_name`."""
    target = compiled.target
    if target is None or "*" not in target.model_name:
        return compiled
    copy = CompiledModel(compiled.entry, compiled.key_entry)
    copy.row = compiled.row
    copy.target = msgspec.structs.replace(target, model_name=target.model_name.replace("*", text))
    copy.adapter = compiled.adapter
    return copy


def quoted(name: str) -> str:
    """A name as messages show it: in double quotes, with quotes, backslashes and controls escaped (data-plane 2.3)."""
    return msgspec.json.encode(shortened(name).encode(errors="replace").decode()).decode()


def shortened(name: str) -> str:
    """As much of a caller's name as messages repeat."""
    return name if len(name) <= 256 else name[:256] + "…"


def _wire(model: Model, key: ProviderKey) -> str:
    """Which adapter speaks to this provider: the vendor's own, else the one the key names (data-plane 4.0)."""
    if key.provider in _OWN_BRIDGE:
        return key.provider
    if key.adapter is not None:
        return key.adapter
    vendor = _given(model.provider) or ""
    return vendor if not key.provider and vendor in _OWN_BRIDGE else ""


def _target(entry: Entry[Model], key_entry: Entry[ProviderKey], adapter: Adapter, defaults: Defaults) -> Target:
    model, key = entry.value, key_entry.value
    origin, base_path = adapter.address(key.provider, key.api_base)
    timeout, stream_timeout = _deadlines(model, defaults)
    request, response = key.request, key.response
    return Target(
        model_id=entry.id,
        display_name=model.display_name,
        model_name=_given(model.model_name) or "",
        provider=_given(model.provider) or "",
        wire=adapter.wire,
        provider_key_id=key_entry.id,
        provider_key_name=key.display_name,
        credential=key.api_key,
        origin=origin,
        base_path=base_path,
        trust=TlsTrust(key.tls.ca_cert or "", key.tls.verify) if key.tls else None,
        body=_body(key),
        headers=tuple(
            HeaderTemplate(name, template_pieces(value.reveal()))
            for name, value in ((request and request.default_headers) or {}).items()
        ),
        forward_headers=tuple(
            pattern.strip().lower() for pattern in (request and request.forward_client_headers) or ()
        ),
        reasoning_field=(response and response.reasoning_field) or "",
        timeout=timeout,
        stream_timeout=stream_timeout,
        retries=_given(model.retries),
    )


def _body(key: ProviderKey) -> BodyOverrides:
    request, response = key.request, key.response
    constraints = request.param_constraints if request else None
    return BodyOverrides(
        renames=(request and request.param_renames) or {},
        temperature_min=constraints.temperature_min if constraints else None,
        temperature_max=constraints.temperature_max if constraints else None,
        defaults={name: value.value() for name, value in ((request and request.default_body_fields) or {}).items()},
        flatten_content=bool(response and response.content_list_to_string),
    )


def _deadlines(model: Model, defaults: Defaults) -> tuple[float | None, float | None]:
    """Seconds for the whole buffered exchange and for each wait of a stream; None: no limit (data-plane 6.5)."""
    own = _given(model.timeout)
    request_ms = defaults.timeout_ms if own is None else own
    stream_ms = _given(model.stream_timeout) or 0
    if not stream_ms:
        stream_ms = (defaults.stream_timeout_ms or defaults.timeout_ms) if own is None else own
    return (request_ms / 1000 if request_ms else None), (stream_ms / 1000 if stream_ms else None)


def template_pieces(text: str) -> tuple[tuple[str, bool], ...]:
    """A header template, cut into literal pieces and variables in turn: `a${b}` is (("a", False), ("b", True))."""
    pieces = _VARIABLE.split(text)
    return tuple((piece, bool(at % 2)) for at, piece in enumerate(pieces) if piece or at % 2)


def _networks(cidrs: Sequence[str]) -> tuple[IPv4Network | IPv6Network, ...]:
    """The blocks that can be read. Text without a prefix length is no block here and counts for nothing (2.7)."""
    networks = []
    for text in cidrs:
        try:
            if "/" in text:
                networks.append(ip_network(text.strip(), strict=False))
        except ValueError:
            continue
    return tuple(networks)


def _given(value: Any) -> Any:
    return None if isinstance(value, UnsetType) or value is UNSET else value
