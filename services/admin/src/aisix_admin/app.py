"""Wiring: the one place of this service where long-lived objects are built."""

import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from aiohttp import web

from aisix_common.clock import SYSTEM_CLOCK, Clock
from aisix_common.errors import ConfigurationError, Problem
from aisix_common.logs import Logger, get_logger
from aisix_common.metrics import Metrics
from aisix_common.resources import KINDS
from aisix_common.secret import Secret
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
from .follow import Follower
from .names import NameIndex, NameReader
from .server import IDLE_SECONDS, Front
from .services import Services
from .store import LONGEST_REQUEST, Etcd, ResourceStore, Roots
from .telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the service is built on, opened and closed by whoever runs it. Tests bring their own."""

    etcd: Etcd
    events: Callable[[], AsyncIterator[WatchEvent]]
    """A new list + watch of everything under the resource root."""
    lifecycle: Lifecycle
    metrics: Metrics
    log: Logger
    clock: Clock = SYSTEM_CLOCK
    body_seconds: float = 30.0
    new_id: Callable[[], str] = lambda: str(uuid.uuid4())
    new_key: Callable[[], Secret] = new_key


def assemble(settings: Settings, around: Surroundings) -> Services:
    """The services of one admin process. Its follower has to be run: `services.follower.run()`."""
    fields = {kind.name: kind.name_field for kind in KINDS}
    index = NameIndex(settings.etcd.resource_root, fields, NameReader(fields))
    follower = Follower(around.events, index, around.clock, around.log)
    telemetry = Telemetry(around.metrics)
    roots = Roots(settings.etcd.resource_root, settings.etcd.run_root)
    return Services(
        store=ResourceStore(around.etcd, roots, follower, telemetry.settled),
        follower=follower,
        lifecycle=around.lifecycle,
        admin_keys=AdminKeys(settings.admin.admin_keys),
        telemetry=telemetry,
        log=around.log,
        clock=around.clock,
        body_seconds=around.body_seconds,
        new_id=around.new_id,
        new_key=around.new_key,
    )


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
    """What `run_service` builds the admin with. Raises ConfigurationError for settings the admin cannot run with."""
    _require_runnable(settings)
    options = store_options(settings, environ)

    async def build(stack: AsyncExitStack, lifecycle: Lifecycle, tasks: TaskOwner) -> Sequence[Listener]:
        client = await stack.enter_async_context(EtcdClient(options))
        metrics = Metrics()
        root = settings.etcd.resource_root + "/"
        around = Surroundings(client, lambda: list_and_watch(client, root), lifecycle, metrics, get_logger("admin"))
        services = assemble(settings, around)
        front = await serve(services, stack, idle_seconds=settings.downstream.idle_timeout_secs or IDLE_SECONDS)
        tasks.spawn(services.follower.run(), name="follow resource names", essential=True)
        return _listeners(settings, front, metrics)

    return build


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
