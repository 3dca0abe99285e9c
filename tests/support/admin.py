"""The admin service as an application in the test's own loop, on a real etcd, reached by a real socket.

async with running_admin(etcd.endpoint, prefix) as admin:
    status, body = await admin.call("POST", "/models", {...})
    admin.logged                     # every line of its log, as text
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import structlog
from aiohttp import ClientSession

from aisix_admin.app import Surroundings, assemble, serve
from aisix_admin.rows import Etcd
from aisix_admin.server import Front
from aisix_admin.services import Services
from aisix_common.clock import SYSTEM_CLOCK, Clock
from aisix_common.logs import Logger
from aisix_common.metrics import Metrics, render
from aisix_common.resources import BY_NAME, Loaded, read
from aisix_common.secret import Secret
from aisix_common.secrets.envelope import Keyring
from aisix_common.service import Lifecycle
from aisix_common.settings import Address, Admin, Proxy, Secrets, Settings
from aisix_common.settings import Etcd as EtcdSettings
from aisix_common.settings.listeners import AdminKey
from aisix_common.store.client import EtcdClient, EtcdOptions
from aisix_common.store.watch import list_and_watch
from aisix_common.tasks import TaskOwner

ADMIN_KEY = "admin-key-canary-5f1c"
SECOND_KEY = "second-admin-key-canary-77aa"
VIEWER_KEY = "viewer-key-canary-31c9"
KEYRING = Keyring([("test", bytes(range(32)))])
"""What stored secrets are sealed with, unless a test brings its own."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer read to its end. Header names in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class RunningAdmin:
    """A served admin application. `etcd` is its client: write behind its back with it."""

    services: Services
    etcd: EtcdClient
    prefix: str
    url: str
    session: ClientSession
    metrics: Metrics
    lines: structlog.testing.LogCapture
    front: Front
    key: str = ADMIN_KEY
    """What requests present."""

    def viewing(self) -> "RunningAdmin":
        """The same admin, asked with a viewer's key."""
        return replace(self, key=VIEWER_KEY)

    async def send(
        self, method: str, path: str, body: object = None, *, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request with the admin key; its answer is read to the end. `headers` replace all defaults.

        Paths are under /admin/v1 unless they begin with another surface of the admin listener.
        """
        sent = {"Authorization": f"Bearer {self.key}"} if headers is None else dict(headers)
        data = body if isinstance(body, bytes) else None
        more: dict[str, Any] = {"json": body} if body is not None and data is None else {"data": data}
        whole = path.startswith(("/admin/", "/aisix/", "/apisix/", "/playground/")) or path.endswith("z")
        url = self.url + (path if whole else f"/admin/v1{path}")
        async with self.session.request(method, url, headers=sent, **more) as response:
            return Answer(response.status, response.headers, await response.read())

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """One request with the admin key: status and decoded body."""
        answer = await self.send(method, path, body)
        return answer.status, answer.json

    async def create(self, kind: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """Create a resource that must be accepted; gives its entry."""
        status, entry = await self.call("POST", f"/{kind}", dict(document))
        assert status == 200, entry
        return cast("dict[str, Any]", entry)

    async def opened(self, kind: str, id: str) -> Any:
        """The document of a row that is there, its secrets in clear."""
        row = await self.etcd.get(f"{'/ext' * BY_NAME[kind].external}{self.prefix}/{kind}/{id}")
        assert row is not None
        loaded = read(BY_NAME[kind], row.value)
        assert isinstance(loaded, Loaded), loaded
        return dict(self.services.sealing.clear(BY_NAME[kind], id, loaded.value))

    @property
    def logged(self) -> str:
        """Everything logged so far."""
        return "\n".join(repr(line) for line in self.lines.entries)

    @property
    def scraped(self) -> str:
        """What Prometheus would get."""
        return render(self.metrics.collect()).decode()


def settings(
    endpoint: str,
    prefix: str,
    *,
    playground: str | None = None,
    history_versions: int = 20,
    secrets: Secrets | None = None,
) -> Settings:
    """Settings of an admin on loopback."""
    return Settings(
        secrets=secrets or Secrets(),
        proxy=Proxy(addr=Address("127.0.0.1", 0)),
        etcd=EtcdSettings(endpoints=(endpoint,), prefix=prefix),
        admin=Admin(
            admin_keys=(
                Secret(ADMIN_KEY),
                Secret(SECOND_KEY),
                AdminKey(name="watcher", key=Secret(VIEWER_KEY), role="viewer"),
            ),
            metrics_addr=None,
            playground_proxy_url=playground,
            history_versions=history_versions,
        ),
    )


@asynccontextmanager
async def running_admin(
    endpoint: str,
    prefix: str,
    *,
    request_timeout: float = 5.0,
    body_seconds: float = 30.0,
    via: Callable[[EtcdClient], Etcd] | None = None,
    clock: Clock = SYSTEM_CLOCK,
    playground: str | None = None,
    history_versions: int = 20,
    keyring: Keyring | Callable[[], Keyring] = KEYRING,
    secrets: Secrets | None = None,
) -> AsyncIterator[RunningAdmin]:
    """Serve until the block ends. `via` stands between the store and the client, to lose answers. `keyring`: the keys,
    or what gives those of the moment."""
    options = EtcdOptions(endpoints=tuple(endpoint.split(",")), request_timeout=request_timeout)
    lines = structlog.testing.LogCapture()
    log = structlog.wrap_logger(
        None, processors=[lines], wrapper_class=structlog.make_filtering_bound_logger(0), cache_logger_on_first_use=True
    )
    metrics = Metrics()
    async with EtcdClient(options) as client, TaskOwner() as tasks:
        store: Etcd = client if via is None else via(client)
        around = Surroundings(
            store,
            lambda: list_and_watch(client, prefix + "/"),
            lambda: list_and_watch(client, f"/ext{prefix}/"),
            lambda: list_and_watch(client, f"/run{prefix}/instances/"),
            Lifecycle(),
            metrics,
            cast("Logger", log),
            keyring=(lambda: keyring) if isinstance(keyring, Keyring) else keyring,
            clock=clock,
            body_seconds=body_seconds,
            probing=client,
        )
        configured = settings(
            endpoint, prefix, playground=playground, history_versions=history_versions, secrets=secrets
        )
        services = assemble(configured, around)
        tasks.spawn(services.follower.run(), name="follow")
        tasks.spawn(services.fleet.run(), name="follow instances")
        async with AsyncExitStack() as stack:
            front = await serve(services, stack)
            server = await asyncio.get_running_loop().create_server(front, "127.0.0.1", 0)
            stack.callback(server.close)
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with asyncio.timeout(10):
                await services.follower.until(lambda: services.follower.index.listed)
            async with ClientSession() as session:
                yield RunningAdmin(services, client, prefix, url, session, metrics, lines, front)
