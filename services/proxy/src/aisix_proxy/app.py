"""Where the proxy is put together: the only place that makes long-lived objects (design 4.6).

`build` is the frame's (`aisix_common.service.run_service`); `make_services` is the part of it that needs no etcd, for
tests and tools that bring a snapshot of their own. Whatever is opened here has its close on the stack beside it.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from aisix_common.clock import SYSTEM_CLOCK, Clock
from aisix_common.metrics import Metrics
from aisix_common.service import Lifecycle, Listener, metrics_listener, new_request_id
from aisix_common.settings import Settings
from aisix_common.snapshot import empty
from aisix_common.store.client import EtcdClient
from aisix_common.store.options import etcd_options
from aisix_common.tasks import TaskOwner

from .compiled import Live
from .compiled_model import Defaults
from .dialects import DIALECT
from .endpoints import ENDPOINTS
from .endpoints._edge import Edge
from .following import Ground, follow_etcd, follow_file
from .managed.parts import ManagedParts
from .pipeline.client_address import AddressRule
from .pipeline.services import Services, Upstream
from .secret_managers.base import Make
from .secret_managers.registry import MAKERS
from .status import StatusPages
from .telemetry.access_log import AccessLog, LineSink
from .telemetry.client_type import ClientTypes
from .telemetry.model_health import ModelHealth
from .telemetry.proxy_metrics import Buckets, ProxyMetrics
from .telemetry.usage_event import UsageSink
from .upstream.client import UpstreamClient

FALLBACK_DIALECT: Final = "openai-chat"
"""Words the errors of requests that reach no endpoint."""


@dataclass(frozen=True, slots=True)
class Replacements:
    """What a test brings in place of the real thing; None: the real thing."""

    upstream: Upstream | None = None
    clock: Clock = SYSTEM_CLOCK
    random: Callable[[], float] | None = None
    usage_sinks: tuple[UsageSink, ...] = ()
    secret_managers: Mapping[str, Make] | None = None


@dataclass(frozen=True, slots=True)
class Process:
    """What this process is given by whoever started it."""

    environ: Mapping[str, str]
    log_lines: LineSink
    """Takes access-log lines."""
    worker: int | None = None
    """Which of several worker processes it is."""


def make_services(
    settings: Settings,
    lifecycle: Lifecycle,
    metrics: Metrics,
    log_lines: LineSink,
    replacements: Replacements = Replacements(),
    managed: ManagedParts | None = None,
) -> Services:
    """Everything an exchange uses, with nothing configured yet. Raises ConfigurationError for `upstream.tls`.

    The caller closes `services.upstream` where it is an UpstreamClient.
    """
    observability, proxy = settings.observability, settings.proxy
    buckets = observability.metrics.buckets
    return Services(
        settings=settings,
        clock=replacements.clock,
        lifecycle=lifecycle,
        live=Live(
            empty(settings.etcd.resource_root),
            Defaults(settings.upstream.timeout_ms, settings.upstream.stream_timeout_ms),
        ),
        upstream=replacements.upstream or UpstreamClient(settings.upstream),
        metrics=ProxyMetrics(
            metrics, Buckets(buckets.request_e2e_latency, buckets.request_ttft), env_id=settings.etcd.env_id
        ),
        access_log=AccessLog(log_lines, enabled=observability.access_log),
        health=ModelHealth(),
        address_rule=AddressRule(
            proxy.real_ip.trusted_proxies, recursive=proxy.real_ip.recursive, header=proxy.real_ip.header
        ),
        client_types=ClientTypes([(rule.pattern, rule.client) for rule in observability.metrics.client_type_rules]),
        random=replacements.random or random.SystemRandom().random,
        usage_sinks=(*replacements.usage_sinks, *([managed.journal] if managed is not None else [])),
        budgets=managed.budgets if managed is not None else None,
    )


def make_edge(services: Services) -> Edge:
    """The handler of the public listener."""
    return Edge(services, ENDPOINTS, DIALECT[FALLBACK_DIALECT])


async def build(
    settings: Settings,
    process: Process,
    stack: AsyncExitStack,
    lifecycle: Lifecycle,
    tasks: TaskOwner,
    replacements: Replacements = Replacements(),
) -> Sequence[Listener]:
    """Make the service and say what it listens on. Does not wait for etcd, readiness tells; a resources file is read
    before anything else, and FileRefused when it cannot be used. Raises ConfigurationError, too, for keys that cannot
    be read and secret managers that make no sense."""
    metrics, instance = Metrics(), new_request_id()
    client = managed = None
    if settings.resources_file is None:
        client = await stack.enter_async_context(EtcdClient(etcd_options(settings.etcd, process.environ)))
        if settings.managed.enabled:
            managed = ManagedParts(settings, client, instance, replacements.clock, metrics)
            stack.callback(managed.journal.close)
    services = make_services(settings, lifecycle, metrics, process.log_lines, replacements, managed)
    if isinstance(services.upstream, UpstreamClient):
        stack.push_async_callback(services.upstream.aclose)
    ground = Ground(
        services=services,
        metrics=metrics,
        environ=process.environ,
        worker=process.worker,
        secret_managers=replacements.secret_managers or MAKERS,
        stack=stack,
        tasks=tasks,
        instance=instance,
        client=client,
        managed=managed,
    )
    followed = follow_etcd(ground) if settings.resources_file is None else await follow_file(ground)
    listeners = [
        Listener(
            name="proxy",
            setting="proxy.addr",
            address=settings.proxy.addr,
            make=make_edge(services).server,
            tls=settings.proxy.tls,
            shared=True,
        )
    ]
    prometheus = settings.observability.metrics.prometheus
    if prometheus.enabled:
        pages = StatusPages(services.live, services.health, lifecycle, followed)
        listeners.append(
            metrics_listener(
                metrics,
                pages.pages(),
                address=prometheus.addr,
                path=prometheus.path,
                setting="observability.metrics.prometheus.addr",
                idle_seconds=settings.downstream.idle_timeout_secs,
            )
        )
    return listeners
