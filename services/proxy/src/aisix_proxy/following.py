"""Where the configuration comes from, and all that follows it: etcd with both roots, the keyring, the caches and this
process's row; or a resources file. Its part of putting the proxy together (see `app`): whatever is opened here has its
close on the stack, whatever runs here is one of the tasks.
"""

import gc
import socket
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import msgspec

from aisix_common.clock import rfc3339
from aisix_common.logs import get_logger
from aisix_common.metrics import Metrics
from aisix_common.resources import EXTERNAL_KINDS
from aisix_common.secrets.envelope import Keyring
from aisix_common.secrets.keyring_files import KeyringFiles
from aisix_common.secrets.providers import configured
from aisix_common.settings import Settings
from aisix_common.snapshot import Snapshot
from aisix_common.sources.disk_cache import DiskCache
from aisix_common.sources.etcd import EtcdSource
from aisix_common.sources.file import FileSource
from aisix_common.sources.sealing import sealer_for
from aisix_common.sources.status import config_numbers
from aisix_common.store.client import EtcdClient
from aisix_common.tasks import TaskOwner
from aisix_common.version import VERSION

from .managed.parts import ManagedParts, watch_of
from .pipeline.services import Services
from .secret_managers.base import Make
from .secret_managers.probing import Answerer, Probing
from .secret_managers.report import named
from .secret_managers.resolver import Resolver, Setup
from .secret_managers.settled import making_of, timing_of
from .status import Followed
from .telemetry.config_hash import ConfigHash
from .telemetry.config_metrics import ConfigMetrics
from .telemetry.instance_state import GUARDRAIL_KINDS, InstanceRow, InstanceState, with_configuration
from .telemetry.secret_metrics import SecretMetrics
from .telemetry.shortcomings import Shortcomings


@dataclass(frozen=True, slots=True)
class Ground:
    """What following stands on."""

    services: Services
    metrics: Metrics
    environ: Mapping[str, str]
    worker: int | None
    """Which of several worker processes it is."""
    secret_managers: Mapping[str, Make]
    stack: AsyncExitStack
    tasks: TaskOwner
    instance: str
    """The id of this process's row."""
    client: EtcdClient | None
    """None: resources come from a file."""
    managed: ManagedParts | None = None
    """None: the gateway is not managed."""

    @property
    def settings(self) -> Settings:
        return self.services.settings


def follow_etcd(ground: Ground) -> Followed:
    """Serve what etcd holds, tell the others how that goes, and say where to look for what is known of it. On the event
    loop; does not wait for etcd. Raises ConfigurationError for keys that cannot be read, and for secret managers that
    make no sense."""
    services, settings, tasks = ground.services, ground.settings, ground.tasks
    keys = KeyringFiles(settings.secrets.keyring, ground.environ, get_logger("keyring"))
    keys.load()
    client = ground.client
    assert client is not None
    resolver = _resolver(ground, lambda: row.changed())

    def source(root: str, suffix: str, name: str, **more: Any) -> EtcdSource:
        cache = _cache(ground, keys, root, suffix)
        return EtcdSource(client, root, cache, services.clock, get_logger(name), keyring=lambda: keys.keyring, **more)

    resources = source(settings.etcd.resource_root, "", "source", **watch_of(ground.managed, external=False))
    external = source(
        settings.etcd.ext_root,
        ".ext",
        "ext source",
        kinds=EXTERNAL_KINDS,
        **watch_of(ground.managed, external=True),
    )
    config_metrics = ConfigMetrics(
        ground.metrics, lambda: config_numbers(services.live.compiled.snapshot, resources.status(), external.snapshot)
    )
    fingerprint = ConfigHash(lambda: services.live.compiled.snapshot, lambda: keys.keyring, config_metrics.hash_changed)
    base, shortcomings = _instance(ground), Shortcomings()
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
            shortcomings,
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
    if ground.managed is not None:
        ground.managed.start(tasks, lambda: row.lease, lambda: services.live.compiled.snapshot)
    return Followed(resources.status, lambda: external.snapshot, resolver.report, lambda: keys.keyring)


async def follow_file(ground: Ground) -> Followed:
    """Serve what the resources file holds, and read it again on SIGHUP. No etcd: no cache and no row to write, and the
    secret managers are those of config.yaml. Raises FileRefused, and ConfigurationError as `follow_etcd`."""
    services, settings = ground.services, ground.settings
    assert settings.resources_file is not None
    source = FileSource(
        settings.resources_file, ground.environ, settings.etcd.resource_root, services.clock, get_logger("source")
    )
    config_metrics = ConfigMetrics(
        ground.metrics, lambda: config_numbers(services.live.compiled.snapshot, source.status())
    )
    resolver = _resolver(ground, lambda: config_metrics.hash_changed(source.status().file.served_digest))
    resolver.providers(None)
    services.lifecycle.on_reload(source.reload)  # first: a SIGHUP during the first reading must not get lost
    await source.start(resolver.base)
    ground.tasks.spawn(source.run(resolver.base), name="resources", essential=True)
    return Followed(source.status, lambda: None, resolver.report)


def _resolver(ground: Ground, tell: Callable[[], None]) -> Resolver:
    """A resolver at work, which has every snapshot put to use; `tell` is called after each."""
    services, settings, metrics = ground.services, ground.settings, SecretMetrics(ground.metrics)

    def publish(snapshot: Snapshot) -> None:
        services.live.apply(snapshot)
        services.health.forget(services.live.compiled.known_names)
        tell()

    def ready() -> None:
        services.lifecycle.applied = True
        gc.freeze()  # what was loaded stays: the collector need not walk it again and again

    setup = Setup(
        timing=timing_of(settings),
        making=making_of(settings, ground.environ, services.clock, ground.secret_managers),
        configured=configured(settings),
        clock=services.clock,
        random=services.random,
        log=get_logger("secrets"),
        tell=metrics.fetched,
        one_life=settings.resources_file is None,
    )
    resolver = Resolver(settings.etcd.resource_root, setup, publish, ready)
    ground.stack.push_async_callback(resolver.aclose)
    ground.tasks.spawn(resolver.run(), name="secret references", essential=True)
    metrics.follow(lambda: named(resolver.counts()))
    return resolver


def _cache(ground: Ground, keys: KeyringFiles, root: str, suffix: str) -> DiskCache | None:
    """Each worker keeps a file of its own for each root, and starts with the newest of all."""
    path = ground.settings.managed.snapshot_cache_path.strip()
    if not path:
        return None
    sealer = sealer_for(lambda: keys.keyring)
    return DiskCache(path + suffix, root, get_logger("cache"), sealer, worker=ground.worker)


def _instance(ground: Ground) -> InstanceState:
    """What of this process's row never changes."""
    return InstanceState(
        instance=ground.instance,
        service="proxy",
        hostname=socket.gethostname(),
        version=VERSION,
        started_at=rfc3339(ground.services.clock.now()),
        applied_revision=0,
        connected=False,
        worker=ground.worker,
        supported_guardrail_kinds=GUARDRAIL_KINDS,
    )
