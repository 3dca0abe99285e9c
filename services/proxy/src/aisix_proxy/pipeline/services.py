"""Everything long-lived that an exchange may use: one frozen value, made by `app.py` and nowhere else (design 4.6)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from aisix_common.clock import Clock
from aisix_common.service import Lifecycle
from aisix_common.settings import Settings

from ..canonical.http import UpstreamRequest, UpstreamResponse
from ..compiled import Live
from ..managed.budgets import Budgets
from ..telemetry.access_log import AccessLog
from ..telemetry.client_type import ClientTypes
from ..telemetry.model_health import ModelHealth
from ..telemetry.proxy_metrics import ProxyMetrics
from ..telemetry.usage_event import UsageSink
from ..upstream.client import UpstreamStream
from .client_address import AddressRule
from .counter import Counter


class Upstream(Protocol):
    """What stages need of the upstream client."""

    async def send(self, request: UpstreamRequest, *, timeout: float | None, max_body: int) -> UpstreamResponse: ...

    async def open(self, request: UpstreamRequest, *, timeout: float | None) -> UpstreamStream: ...


@dataclass(frozen=True, slots=True)
class Services:
    """Made once per process."""

    settings: Settings
    clock: Clock
    lifecycle: Lifecycle
    live: Live
    """Holds the compiled snapshot in force; an exchange reads it once, at its start."""
    upstream: Upstream
    metrics: ProxyMetrics
    access_log: AccessLog
    health: ModelHealth
    address_rule: AddressRule
    client_types: ClientTypes
    random: Callable[[], float]
    """Numbers in [0, 1), for the jitter of retries."""
    usage_sinks: tuple[UsageSink, ...] = ()
    counter: Counter = field(default_factory=Counter)
    budgets: Budgets | None = None
    """What the Cloud said of caller keys; None: nobody is asked, every key may spend (data-plane 7.6)."""
