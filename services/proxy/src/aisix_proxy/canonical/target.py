"""A model row that may be dispatched, compiled to what an adapter needs (once per configuration change)."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from aisix_common.secret import Secret

from .http import Origin, TlsTrust


class HeaderTemplate(msgspec.Struct, frozen=True):
    """One configured header: literal pieces and variables in turn (data-plane 4.0, `default_headers`)."""

    name: str
    pieces: tuple[tuple[str, bool], ...]
    """(text, is_variable): a variable's text is its name, such as `request.id`."""


class BodyOverrides(msgspec.Struct, frozen=True):
    """Changes to an outgoing JSON body, applied in this order: renames, constraints, defaults (data-plane 4.0)."""

    renames: Mapping[str, str] = {}
    temperature_min: float | None = None
    temperature_max: float | None = None
    defaults: Mapping[str, Any] = {}
    flatten_content: bool = False
    """`response.content_list_to_string`: text parts of a message become one string."""

    def __bool__(self) -> bool:
        return bool(self.renames or self.defaults or self.flatten_content) or not (
            self.temperature_min is None and self.temperature_max is None
        )


class Target(msgspec.Struct, frozen=True):
    """Everything an adapter needs to address one model. Immutable; replaced when its rows change."""

    model_id: str
    """Id of the model row."""
    display_name: str
    """The model row's own name (metrics, limits)."""
    model_name: str
    """What the provider calls it."""
    provider: str
    wire: str
    """Name of the adapter."""
    provider_key_id: str
    provider_key_name: str
    credential: Secret
    origin: Origin
    base_path: str
    """Path in front of the endpoint, without a trailing slash."""
    trust: TlsTrust | None = None
    body: BodyOverrides = BodyOverrides()
    headers: Sequence[HeaderTemplate] = ()
    forward_headers: Sequence[str] = ()
    """Patterns (one `*` at most, lower-case) of caller headers that may pass."""
    reasoning_field: str = ""
    """`response.reasoning_field`: where a stream's delta keeps its thinking (dotted path)."""
    timeout: float | None = None
    """Seconds for the whole buffered exchange; None: no limit (already resolved over model and deployment)."""
    stream_timeout: float | None = None
    """Seconds for connecting and for every gap between chunks of a stream."""
    retries: int | None = None
    """Same-target retries; None: the deployment's default, not after timeouts (data-plane 6.3)."""
