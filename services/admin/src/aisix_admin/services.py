"""What the handlers of the admin API work with: one frozen value, built by `app.py` and by tests."""

from collections.abc import Callable
from dataclasses import dataclass

from aisix_common.clock import Clock
from aisix_common.logs import Logger
from aisix_common.secret import Secret
from aisix_common.service.lifecycle import Lifecycle

from .auth import AdminKeys
from .decisions import Decisions
from .fleet import Fleet
from .follow import Follower
from .playground import Playground
from .probes import Probes
from .rows import Reading
from .sealing import Sealing
from .store import ResourceStore
from .telemetry import Telemetry
from .throttle import Throttle


@dataclass(frozen=True, slots=True)
class Services:
    """Everything long-lived. `new_id` makes resource ids, `new_key` caller keys."""

    rows: Reading
    store: ResourceStore
    decisions: Decisions
    follower: Follower
    fleet: Fleet
    lifecycle: Lifecycle
    admin_keys: AdminKeys
    throttle: Throttle
    playground: Playground
    sealing: Sealing
    telemetry: Telemetry
    log: Logger
    """Its lines never hold values of documents."""
    clock: Clock
    body_seconds: float
    """How long a client may take to send a body."""
    new_id: Callable[[], str]
    new_key: Callable[[], Secret]
    file: str | None = None
    """The resources file, in file mode."""
    probes: Probes | None = None
    """Asks the proxies; None where there is no etcd."""
