"""Wiring: the one place of this service where long-lived objects are built."""

import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

from aiohttp import web

from aisix_common.clock import SYSTEM_CLOCK, Clock
from aisix_common.errors import ConfigurationError, Problem
from aisix_common.logs import Logger, get_logger
from aisix_common.metrics import Metrics
from aisix_common.resources import ALL_KINDS, KINDS
from aisix_common.secret import Secret
from aisix_common.secrets.envelope import NO_KEYRING, Keyring
from aisix_common.secrets.keyring_files import KeyringFiles
from aisix_common.secrets.providers import configured, env_policy
from aisix_common.service import Build, Lifecycle, Listener, metrics_listener
from aisix_common.settings import Settings
from aisix_common.store.client import EtcdClient, EtcdOptions, etcd_options
from aisix_common.store.types import WatchEvent
from aisix_common.store.watch import list_and_watch
from aisix_common.tasks import TaskOwner

from .api.edge import edge
from .api.routes import mount
from .auth import AdminKeys
from .body import BODY_LIMIT
from .caller_keys import new_key
from .decisions import Decisions
from .file_reading import FileReading, NoEtcd, silence
from .file_rows import FileRows
from .fleet import Fleet
from .follow import Follower
from .index import ResourceIndex
from .known_providers import KnownProviders
from .playground import Playground
from .probes import Leasing, Probes
from .references import References
from .rows import LONGEST_REQUEST, Etcd, EtcdRows, Reading, Roots
from .sealing import Sealing
from .server import IDLE_SECONDS, Front
from .services import Services
from .store import ResourceStore
from .telemetry import Telemetry
from .throttle import Throttle
from .trimming import Trimmer


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the service is built on, opened and closed by whoever runs it. Tests bring their own."""

    etcd: Etcd
    events: Callable[[], AsyncIterator[WatchEvent]]
    """A new list + watch of everything under the resource root."""
    ext_events: Callable[[], AsyncIterator[WatchEvent]] | None
    """The same of the ext root; None: there is none, as in file mode."""
    instances: Callable[[], AsyncIterator[WatchEvent]]
    """The same of the proxies' own rows."""
    lifecycle: Lifecycle
    metrics: Metrics
    log: Logger
    environ: Mapping[str, str] = field(default_factory=dict)
    keyring: Callable[[], Keyring] = lambda: NO_KEYRING
    """What secrets are sealed with now: the files it comes from may change."""
    probing: Leasing | None = None
    """The etcd client, for rows that end by themselves; None: there is no etcd."""
    clock: Clock = SYSTEM_CLOCK
    body_seconds: float = 30.0
    new_id: Callable[[], str] = lambda: str(uuid.uuid4())
    new_key: Callable[[], Secret] = new_key
    new_token: Callable[[], str] = lambda: uuid.uuid4().hex[:12]
    rows: Reading | None = None
    """Where resources are read from, when not from etcd."""


def assemble(settings: Settings, around: Surroundings) -> Services:
    """The services of one admin process. `services.follower` and `services.fleet` have to be run.

    Raises ConfigurationError for admin keys that cannot be read, and for `secrets.providers` that are wrong.
    """
    roots = _roots(settings)
    streams = [around.events]
    if around.ext_events is not None:
        streams.append(around.ext_events)
    index = ResourceIndex(roots.resources, ALL_KINDS, ext=roots.ext if around.ext_events is not None else None)
    follower = Follower(streams, index, around.clock, around.log)
    telemetry = Telemetry(around.metrics)
    keys = AdminKeys(settings.admin.admin_keys, around.environ, log=around.log)
    known = KnownProviders(index, configured(settings))
    sealing = Sealing(around.keyring, allow_plaintext=settings.secrets.allow_plaintext)
    store = ResourceStore(
        around.etcd,
        roots,
        follower,
        around.clock,
        around.new_token,
        sealing,
        versions=settings.admin.history_versions,
        given=known.configured,
        settled=telemetry.settled,
    )
    return Services(
        rows=around.rows or EtcdRows(around.etcd, roots),
        store=store,
        decisions=Decisions(keys, References(known.names, env_policy(settings))),
        follower=follower,
        fleet=Fleet(around.instances, around.clock, around.log),
        lifecycle=around.lifecycle,
        admin_keys=keys,
        throttle=Throttle(telemetry, around.log),
        playground=Playground(settings.admin.playground_proxy_url),
        sealing=sealing,
        telemetry=telemetry,
        log=around.log,
        clock=around.clock,
        body_seconds=around.body_seconds,
        new_id=around.new_id,
        new_key=around.new_key,
        file=settings.resources_file,
        probes=Probes(around.probing, roots.run, around.clock) if around.probing is not None else None,
    )


def _roots(settings: Settings) -> Roots:
    return Roots(settings.etcd.resource_root, settings.etcd.run_root, settings.etcd.ext_root)


def application(services: Services) -> web.Application:
    """The HTTP application of the admin listener."""
    app = web.Application(middlewares=[edge(services)], client_max_size=BODY_LIMIT)
    mount(app, services)
    return app


async def serve(services: Services, stack: AsyncExitStack, *, idle_seconds: float = IDLE_SECONDS) -> Front:
    """The protocol factory of the admin listener; what it needs is closed with `stack`."""
    runner = web.AppRunner(application(services), access_log=None, handle_signals=False)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    return Front(runner, services.log, idle_seconds=idle_seconds)


def store_options(settings: Settings, environ: Mapping[str, str]) -> EtcdOptions:
    """How etcd is reached: as configured, with no request longer than a call can bear. Raises ConfigurationError."""
    given = etcd_options(settings.etcd, environ)
    return replace(given, request_timeout=min(given.request_timeout, LONGEST_REQUEST))


def build_for(settings: Settings, environ: Mapping[str, str]) -> Build:
    """What `run_service` builds the admin with. Raises ConfigurationError for settings the admin cannot run with, and
    FileRefused for a resources file that cannot be used."""
    _require_runnable(settings)
    if settings.resources_file is not None:
        return _build_on_file(settings, environ, FileRows(settings.resources_file, environ))
    options = store_options(settings, environ)

    async def build(stack: AsyncExitStack, lifecycle: Lifecycle, tasks: TaskOwner) -> Sequence[Listener]:
        client = await stack.enter_async_context(EtcdClient(options))
        log, roots, metrics = get_logger("admin"), _roots(settings), Metrics()
        keyring = KeyringFiles(settings.secrets.keyring, environ, log)
        keyring.load()
        services = assemble(
            settings,
            Surroundings(
                client,
                lambda: list_and_watch(client, roots.resources + "/"),
                lambda: list_and_watch(client, roots.ext + "/"),
                lambda: list_and_watch(client, f"{roots.run}/instances/"),
                lifecycle,
                metrics,
                log,
                environ,
                keyring=lambda: keyring.keyring,
                probing=client,
            ),
        )
        trimmer = Trimmer(client, roots, services.clock, log, audit_days=settings.admin.audit_days)
        services.store.on_written(trimmer.wrote)
        tasks.spawn(services.follower.run(), name="follow resources", essential=True)
        tasks.spawn(services.fleet.run(), name="follow instances", essential=True)
        tasks.spawn(trimmer.run(), name="trim history and audit")
        tasks.spawn(keyring.run(lambda keyring: None), name="follow the keyring's files")
        return await _served(settings, services, stack, metrics)

    return build


def _build_on_file(settings: Settings, environ: Mapping[str, str], file: FileRows) -> Build:
    async def build(stack: AsyncExitStack, lifecycle: Lifecycle, tasks: TaskOwner) -> Sequence[Listener]:
        reading, metrics = FileReading(file, _roots(settings), KINDS), Metrics()
        lifecycle.on_reload(reading.reload)
        around = Surroundings(
            NoEtcd(), reading.events, None, silence, lifecycle, metrics, get_logger("admin"), environ, rows=reading
        )
        services = assemble(settings, around)
        tasks.spawn(services.follower.run(), name="follow the resources file", essential=True)
        return await _served(settings, services, stack, metrics)

    return build


async def _served(
    settings: Settings, services: Services, stack: AsyncExitStack, metrics: Metrics
) -> Sequence[Listener]:
    front = await serve(services, stack, idle_seconds=settings.downstream.idle_timeout_secs or IDLE_SECONDS)
    return _listeners(settings, front, metrics)


def _listeners(settings: Settings, front: Front, metrics: Metrics) -> Sequence[Listener]:
    admin = settings.admin
    listeners = [Listener("admin", "admin.addr", admin.addr, lambda: front, tls=admin.tls)]
    if admin.metrics_addr is not None:
        listeners.append(
            metrics_listener(
                metrics,
                {},
                address=admin.metrics_addr,
                setting="admin.metrics_addr",
                idle_seconds=settings.downstream.idle_timeout_secs,
            )
        )
    return listeners


def _require_runnable(settings: Settings) -> None:
    problems: list[Problem] = []
    if settings.managed.enabled:
        problems.append(Problem("managed.enabled", "the admin never runs in managed mode: the Cloud writes resources"))
    if not settings.admin.enabled:
        problems.append(Problem("admin.enabled", "is false: set it to true to run the admin"))
    elif not settings.admin.admin_keys:
        problems.append(Problem("admin.admin_keys", "at least one key is needed"))
    if problems:
        raise ConfigurationError(problems)
