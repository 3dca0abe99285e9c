"""How each model's upstream is doing, by consecutive failures (data-plane 6.7). Nothing is routed by it yet.

Counts are kept by display name, in this process; `forget` bounds them by the names that still exist.
"""

from collections.abc import Container
from typing import Final

from aisix_common.model_status import ModelNews

from ..canonical.errors import (
    UpstreamAborted,
    UpstreamError,
    UpstreamInBand,
    UpstreamProtocol,
    UpstreamStatus,
    UpstreamTimeout,
)

DEGRADED_AFTER: Final = 4
DOWN_AFTER: Final = 8
_OWN_FAULT: Final = frozenset({401, 408, 429})
"""4xx that speak of the provider or its key, not of what the caller asked (the default triggers of data-plane 6.6)."""
_BY_STATUS: Final = {
    401: "upstream_auth_failure",
    408: "upstream_request_timeout",
    429: "upstream_rate_limited",
}


def reason_of(error: UpstreamError) -> str:
    """The `status_reason` of control-plane 5.2; `""` when the failure is none of the provider's."""
    if isinstance(error, UpstreamStatus):
        if error.upstream_status in _OWN_FAULT:
            return _BY_STATUS[error.upstream_status]
        if error.upstream_status < 500:
            return "" if error.upstream_status >= 400 else "upstream_status_failure"
        return "upstream_server_error"
    if isinstance(error, UpstreamTimeout):
        return "request_timeout"
    if isinstance(error, UpstreamProtocol):
        return "upstream_decode_error"
    if isinstance(error, UpstreamInBand):
        return "upstream_in_band_error" if error.status >= 500 else ""
    return "transport_error" if isinstance(error, UpstreamAborted) or error.status == 502 else ""


class ModelHealth:
    """Counts consecutive upstream failures."""

    def __init__(self) -> None:
        self._failures: dict[str, tuple[int, str]] = {}

    def succeeded(self, name: str) -> None:
        if self._failures:
            self._failures.pop(name, None)

    def failed(self, name: str, error: UpstreamError) -> None:
        """Count a failure, unless the caller's own request was at fault."""
        reason = reason_of(error)
        if reason:
            self._failures[name] = (self._failures.get(name, (0, ""))[0] + 1, reason)

    def level(self, name: str) -> int:
        """0 healthy, 1 degraded, 2 down."""
        failures = self._failures.get(name, (0, ""))[0]
        return (failures >= DEGRADED_AFTER) + (failures >= DOWN_AFTER)

    def reason(self, name: str) -> str:
        """Why the last attempt failed; `""` after a success."""
        return self._failures.get(name, (0, ""))[1]

    def unhealthy(self) -> dict[str, int]:
        """Level by name, of all that are not healthy."""
        return {name: level for name in self._failures if (level := self.level(name))}

    def news(self) -> ModelNews:
        """The models that are not healthy, with why."""
        levels = self.unhealthy()
        return ModelNews(levels, {name: self.reason(name) for name in levels})

    def forget(self, names: Container[str]) -> None:
        """Drop what is counted for models that are not in `names`."""
        for name in [name for name in self._failures if name not in names]:
            del self._failures[name]
