"""Where the agent is put together: the only place that makes long-lived objects (design 4.6).

Whatever is opened here has its close on the stack beside it; whatever runs here is one of the tasks. Nothing here
waits for the Cloud, for etcd or for the lead.
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from aisix_common.clock import SYSTEM_CLOCK
from aisix_common.errors import ConfigurationError, Problem
from aisix_common.logs import get_logger
from aisix_common.metrics import Metrics
from aisix_common.secrets.keyring_files import KeyringFiles
from aisix_common.service import Build, Lifecycle, Listener, metrics_listener
from aisix_common.settings import Managed, Settings
from aisix_common.store.backoff import Backoff
from aisix_common.store.client import EtcdClient, etcd_options
from aisix_common.tasks import TaskOwner

from .agent import Flow, run_flows
from .budgets.budgets import Budgets
from .cloud.link import Link
from .cloud.session import open_session
from .heartbeats.heartbeats import HeartbeatMetrics, Heartbeats
from .heartbeats.instances import Instances
from .identity.bundle_store import BundleStore, DirectoryStore
from .identity.given import check
from .identity.keeper import Keeper
from .in_kubernetes.api import KubernetesApi, in_cluster, place
from .in_kubernetes.lease_lock import KubernetesLock, own_identity
from .in_kubernetes.secret_store import KubernetesStore
from .lead.etcd_lock import EtcdLock
from .lead.lead import Lead, Lock
from .lead.leading import Leadership, lead
from .projection.layout import Layout
from .projection.projector import Projector
from .status import StatusPages, lead_metrics
from .usage.outbox import Outbox

FLOW_PAUSES = (1.0, 30.0)
"""Seconds before a part that crashed is started again: at first, and at most."""


def build_for(settings: Settings, environ: Mapping[str, str]) -> Build:
    """What `run_service` builds the agent with. Raises ConfigurationError for settings it cannot run with."""
    managed = settings.managed
    if not managed.enabled:
        raise ConfigurationError([Problem("managed.enabled", "is false: the cloud agent is for managed mode only")])
    options = etcd_options(settings.etcd, environ)
    holder = own_identity()
    kubernetes = _kubernetes(managed, environ)
    store = _store(managed, kubernetes)

    async def build(stack: AsyncExitStack, lifecycle: Lifecycle, tasks: TaskOwner) -> Sequence[Listener]:
        await asyncio.to_thread(check, managed, store, SYSTEM_CLOCK.now())
        local = await stack.enter_async_context(EtcdClient(options))
        keyring = KeyringFiles(settings.secrets.keyring, environ, get_logger("keyring"))
        keyring.load()
        metrics, link, leadership = Metrics(), Link(), Leadership(holder)
        keeper = _keeper(managed, store, link, metrics)
        stack.push_async_callback(keeper.aclose)
        flows = _Flows(settings, local, keyring, link, metrics)
        tasks.spawn(keeper.run(lambda: leadership.leading), name="identity", essential=True)
        tasks.spawn(keyring.run(lambda _keyring: None), name="keyring")
        tasks.spawn(flows.instances.run(), name="instances", essential=True)
        lock = _lock(managed, local, settings.etcd.run_root, holder, kubernetes)
        tasks.spawn(lead(lock, local, settings.etcd.run_root, flows.run, leadership), name="the lead", essential=True)
        lead_metrics(metrics, leadership)
        pages = StatusPages(
            {"certificate": keeper.status, **flows.parts()}, leadership, lifecycle, lambda: link.session is not None
        )
        return _listeners(settings, metrics, pages)

    return build


class _Flows:
    """What a leader does. Its parts are made once; they run while this agent leads."""

    def __init__(
        self, settings: Settings, local: EtcdClient, keyring: KeyringFiles, link: Link, metrics: Metrics
    ) -> None:
        managed, run_root = settings.managed, settings.etcd.run_root
        chance = random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._link = link
        self._projector = Projector(
            local,
            Layout("", settings.etcd.resource_root, settings.etcd.ext_root, run_root),
            lambda: keyring.keyring,
            managed,
            allow_plaintext=settings.secrets.allow_plaintext,
            clock=SYSTEM_CLOCK,
            log=get_logger("projection"),
            metrics=metrics,
        )
        self.instances = Instances(local, run_root)
        self._heartbeats = Heartbeats(
            link, self.instances, managed.heartbeat_interval_secs, HeartbeatMetrics(metrics), SYSTEM_CLOCK
        )
        self._outbox = Outbox(
            local,
            link,
            run_root,
            clock=SYSTEM_CLOCK,
            chance=chance,
            log=get_logger("usage"),
            metrics=metrics,
            usage=managed.usage,
        )
        self._budgets = Budgets(
            local, link, run_root, clock=SYSTEM_CLOCK, chance=chance, log=get_logger("budgets"), metrics=metrics
        )

    def parts(self) -> dict[str, Callable[[], object]]:
        """What each part tells of itself, to be asked at any time."""
        return {
            "projection": self._projector.status,
            "heartbeats": self._heartbeats.status,
            "usage": lambda: self._outbox.status,
            "budgets": lambda: self._budgets.status,
        }

    async def run(self, lead: Lead) -> None:
        """Run them all. Raises LeadLost."""
        flows: dict[str, Flow] = {
            "projection": lambda lead: self._projector.run(self._link, lead),
            "heartbeats": self._heartbeats.run,
            "usage": self._outbox.run,
            "budgets": self._budgets.run,
        }
        await run_flows(flows, lead, get_logger("agent"), backoff=lambda: Backoff(*FLOW_PAUSES))


def _keeper(managed: Managed, store: BundleStore, link: Link, metrics: Metrics) -> Keeper:
    return Keeper(
        managed,
        store,
        link,
        clock=SYSTEM_CLOCK,
        random=random.SystemRandom().random,
        monotonic=time.monotonic,
        log=get_logger("identity"),
        metrics=metrics,
        open_session=open_session,
    )


def _kubernetes(managed: Managed, environ: Mapping[str, str]) -> KubernetesApi | None:
    """The cluster's API, where something is kept there."""
    if not (managed.kubernetes_secret or managed.kubernetes_lease):
        return None
    return KubernetesApi(in_cluster(environ))


def _store(managed: Managed, kubernetes: KubernetesApi | None) -> BundleStore:
    if kubernetes is not None and managed.kubernetes_secret:
        return KubernetesStore(kubernetes, place(managed.kubernetes_secret, kubernetes.namespace))
    return DirectoryStore(Path(managed.mtls_dir), Path(managed.dp_id_file))


def _lock(managed: Managed, local: EtcdClient, run_root: str, holder: str, kubernetes: KubernetesApi | None) -> Lock:
    if kubernetes is not None and managed.kubernetes_lease:
        return KubernetesLock(kubernetes, place(managed.kubernetes_lease, kubernetes.namespace), holder)
    return EtcdLock(local, run_root, holder)


def _listeners(settings: Settings, metrics: Metrics, pages: StatusPages) -> Sequence[Listener]:
    if settings.managed.metrics_addr is None:
        return []
    return [
        metrics_listener(
            metrics,
            pages.pages(),
            address=settings.managed.metrics_addr,
            setting="managed.metrics_addr",
            idle_seconds=settings.downstream.idle_timeout_secs,
        )
    ]
