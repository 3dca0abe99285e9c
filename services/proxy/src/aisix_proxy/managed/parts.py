"""The parts of a managed proxy, made together: its part of putting the proxy together (see `app` and `following`)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from aisix_common.clock import Clock
from aisix_common.logs import get_logger
from aisix_common.metrics import Metrics
from aisix_common.settings import Settings
from aisix_common.snapshot import Snapshot
from aisix_common.sources.etcd import Watch
from aisix_common.store.client import EtcdClient
from aisix_common.tasks import TaskOwner

from .budget_metrics import BudgetMetrics
from .budgets import Budgets
from .held import held, hold_counter
from .usage_journal import UsageJournal
from .usage_metrics import UsageMetrics
from .usage_shipping import UsageShipping


class ManagedParts:
    """Made before anything is served, put to work by `start` once there is a row of this process."""

    def __init__(self, settings: Settings, client: EtcdClient, instance: str, clock: Clock, metrics: Metrics) -> None:
        """`instance` is the id of this process's row. Registers the metrics."""
        managed, run_root = settings.managed, settings.etcd.run_root
        log, counted = get_logger("usage"), UsageMetrics(metrics)
        self._run_root = run_root
        self._lease: Callable[[], int] = lambda: 0
        self._holds = hold_counter(metrics)
        self._gauges = BudgetMetrics(metrics)
        self.journal = UsageJournal(
            Path(managed.usage.folder),
            counted,
            log,
            most_bytes=managed.usage.max_bytes,
            most_seconds=managed.usage.max_age_secs,
        )
        """The sink of usage events."""
        self._shipping = UsageShipping(self.journal, client, run_root, managed.usage, counted, clock, log)
        self.budgets = Budgets(
            client,
            run_root,
            instance,
            lambda: self._lease(),
            clock=clock,
            stale_max_secs=managed.budget_stale_max_secs,
            log=get_logger("budgets"),
        )

    def watch(self, *, external: bool) -> Watch:
        """How a root is followed, so that no part of a Cloud revision is ever seen; `external`: the ext root."""
        return held(self._run_root, external=external, holds=self._holds, log=get_logger("source"))

    def start(self, tasks: TaskOwner, lease: Callable[[], int], snapshot: Callable[[], Snapshot]) -> None:
        """Put everything to work. `lease` is that of this process's row, 0 while there is none; `snapshot` what is
        served."""
        self._lease = lease
        self._gauges.follow(self.budgets.budgets, snapshot)
        tasks.spawn(self._shipping.run(), name="usage events", essential=True)
        tasks.spawn(self.budgets.run(), name="budgets", essential=True)


def watch_of(parts: ManagedParts | None, *, external: bool) -> dict[str, Any]:
    """What EtcdSource is told of how it follows a root: nothing where the gateway is not managed."""
    return {} if parts is None else {"watch": parts.watch(external=external)}
