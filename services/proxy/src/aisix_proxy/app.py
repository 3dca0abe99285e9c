"""Where the proxy is put together: the only place that makes long-lived objects (design 4.6).

`build` is the frame's (`aisix_common.service.run_service`); `make_services` is the part of it that needs no etcd, for
tests and tools that bring a snapshot of their own. Whatever is opened here has its close on the stack beside it.
"""

import gc
import random
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from aisix_common.clock import SYSTEM_CLOCK, Clock, rfc3339
from aisix_common.logs import get_logger
from aisix_common.metrics import Metrics
from aisix_common.resources import EXTERNAL_KINDS
from aisix_common.secrets.envelope import Keyring
from aisix_common.secrets.keyring_files import KeyringFiles
from aisix_common.secrets.providers import configured
from aisix_common.service import Lifecycle, Listener, metrics_listener, new_request_id
from aisix_common.settings import Settings
from aisix_common.snapshot import Snapshot, empty
from aisix_common.sources.disk_cache import DiskCache
from aisix_common.sources.etcd import EtcdSource
from aisix_common.sources.file import FileSource
from aisix_common.sources.sealing import sealer_for
from aisix_common.sources.status import config_numbers
from aisix_common.store.client import EtcdClient
from aisix_common.store.options import etcd_options
from aisix_common.tasks import TaskOwner
from aisix_common.version import VERSION

from .compiled import Live
from .compiled_model import Defaults
from .dialects import DIALECT
from .endpoints import ENDPOINTS
from .endpoints._edge import Edge
from .pipeline.client_address import AddressRule
from .pipeline.services import Services, Upstream
from .secret_managers.base import Make
from .secret_managers.probing import Answerer, Probing
from .secret_managers.registry import MAKERS
from .secret_managers.report import named
from .secret_managers.resolver import Resolver, Setup
from .secret_managers.settled import making_of, timing_of
from .status import Followed, StatusPages
from .telemetry.access_log import AccessLog, LineSink
from .telemetry.client_type import ClientTypes
from .telemetry.config_hash import ConfigHash
from .telemetry.config_metrics import ConfigMetrics
from .telemetry.instance_state import InstanceRow, InstanceState, with_configuration
from .telemetry.model_health import ModelHealth
from .telemetry.proxy_metrics import Buckets, ProxyMetrics
from .telemetry.secret_metrics import SecretMetrics
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
        usage_sinks=replacements.usage_sinks,
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
    metrics = Metrics()
    services = make_services(settings, lifecycle, metrics, process.log_lines, replacements)
    if isinstance(services.upstream, UpstreamClient):
        stack.push_async_callback(services.upstream.aclose)
    follow = _follow_etcd if settings.resources_file is None else _follow_file
    setup = _secrets(settings, process, services, metrics, replacements)
    followed = await follow(process, services, setup, metrics, stack, tasks)
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


@dataclass(frozen=True, slots=True)
class _Secrets:
    """How this process resolves secret references."""

    setup: Setup
    metrics: SecretMetrics

    def resolver(
        self, services: Services, tell: Callable[[], None], stack: AsyncExitStack, tasks: TaskOwner
    ) -> Resolver:
        """A resolver at work, which has every snapshot put to use; `tell` is called after each."""
        lifecycle = services.lifecycle

        def publish(snapshot: Snapshot) -> None:
            services.live.apply(snapshot)
            services.health.forget(services.live.compiled.known_names)
            tell()

        def ready() -> None:
            lifecycle.applied = True
            gc.freeze()  # what was loaded stays: the collector need not walk it again and again

        resolver = Resolver(services.settings.etcd.resource_root, self.setup, publish, ready)
        stack.push_async_callback(resolver.aclose)
        tasks.spawn(resolver.run(), name="secret references", essential=True)
        self.metrics.follow(lambda: named(resolver.counts()))
        return resolver


def _secrets(
    settings: Settings, process: Process, services: Services, metrics: Metrics, replacements: Replacements
) -> _Secrets:
    secret_metrics = SecretMetrics(metrics)
    making = making_of(settings, process.environ, services.clock, replacements.secret_managers or MAKERS)
    setup = Setup(
        timing=timing_of(settings),
        making=making,
        configured=configured(settings),
        clock=services.clock,
        random=services.random,
        log=get_logger("secrets"),
        tell=secret_metrics.fetched,
        one_life=settings.resources_file is None,
    )
    return _Secrets(setup, secret_metrics)


async def _follow_etcd(
    process: Process,
    services: Services,
    secrets: _Secrets,
    metrics: Metrics,
    stack: AsyncExitStack,
    tasks: TaskOwner,
) -> Followed:
    """Serve what etcd holds, tell the others how that goes, and say where to look for what is known of it."""
    settings = services.settings
    keys = KeyringFiles(settings.secrets.keyring, process.environ, get_logger("keyring"))
    keys.load()
    client = EtcdClient(etcd_options(settings.etcd, process.environ))
    stack.push_async_callback(client.aclose)
    resolver = secrets.resolver(services, lambda: row.changed(), stack, tasks)

    def source(root: str, suffix: str, name: str, **more: Any) -> EtcdSource:
        cache = _cache(settings, process, keys, root, suffix)
        return EtcdSource(client, root, cache, services.clock, get_logger(name), keyring=lambda: keys.keyring, **more)

    resources = source(settings.etcd.resource_root, "", "source")
    external = source(settings.etcd.ext_root, ".ext", "ext source", kinds=EXTERNAL_KINDS)
    config_metrics = ConfigMetrics(
        metrics, lambda: config_numbers(services.live.compiled.snapshot, resources.status(), external.snapshot)
    )
    fingerprint = ConfigHash(lambda: services.live.compiled.snapshot, config_metrics.hash_changed)
    base = _instance(process, services)
    row = InstanceRow(
        client,
        settings.etcd.run_root,
        base.instance,
        lambda: with_configuration(
            msgspec.structs.replace(base, config_hash=fingerprint.value, keys=keys.keyring.ids),
            services.live.compiled.snapshot,
            resources.status(),
            services.health.news(),
            external.snapshot,
        ),
    )

    def provided(snapshot: Snapshot) -> None:
        resolver.providers(snapshot)
        row.changed()

    def rekeyed(_keyring: Keyring) -> None:
        external.rekeyed()
        resources.rekeyed()

    answerer = Answerer(settings.etcd.run_root, base.instance, base.hostname)
    probing = Probing(client, answerer, resolver.clients, services.clock, get_logger("secrets"))
    tasks.spawn(external.run(provided), name="secret providers", essential=True)
    tasks.spawn(resources.run(resolver.base), name="resources", essential=True)
    tasks.spawn(keys.run(rekeyed), name="keyring")
    tasks.spawn(fingerprint.run(), name="configuration hash")
    tasks.spawn(row.keep(), name="instance lease")
    tasks.spawn(row.run(), name="instance row")
    tasks.spawn(probing.run(), name="secret manager probes")
    return Followed(resources.status, lambda: external.snapshot, resolver.report)


async def _follow_file(
    process: Process,
    services: Services,
    secrets: _Secrets,
    metrics: Metrics,
    stack: AsyncExitStack,
    tasks: TaskOwner,
) -> Followed:
    """Serve what the resources file holds, and read it again on SIGHUP. No etcd: no cache and no row to write, and the
    secret managers are those of config.yaml."""
    settings = services.settings
    assert settings.resources_file is not None
    source = FileSource(
        settings.resources_file, process.environ, settings.etcd.resource_root, services.clock, get_logger("source")
    )
    config_metrics = ConfigMetrics(metrics, lambda: config_numbers(services.live.compiled.snapshot, source.status()))
    resolver = secrets.resolver(
        services, lambda: config_metrics.hash_changed(source.status().file.served_digest), stack, tasks
    )
    resolver.providers(None)
    services.lifecycle.on_reload(source.reload)  # first: a SIGHUP during the first reading must not get lost
    await source.start(resolver.base)
    tasks.spawn(source.run(resolver.base), name="resources", essential=True)
    return Followed(source.status, lambda: None, resolver.report)


def _cache(settings: Settings, process: Process, keys: KeyringFiles, root: str, suffix: str) -> DiskCache | None:
    """Each worker keeps a file of its own for each root, and starts with the newest of all."""
    path = settings.managed.snapshot_cache_path.strip()
    if not path:
        return None
    sealer = sealer_for(lambda: keys.keyring)
    return DiskCache(path + suffix, root, get_logger("cache"), sealer, worker=process.worker)


def _instance(process: Process, services: Services) -> InstanceState:
    """What of this process's row never changes."""
    return InstanceState(
        instance=new_request_id(),
        service="proxy",
        hostname=socket.gethostname(),
        version=VERSION,
        started_at=rfc3339(services.clock.now()),
        applied_revision=0,
        connected=False,
        worker=process.worker,
    )
