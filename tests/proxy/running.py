"""The proxy as it is put together, in this process: over an etcd, with its public listener open."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from aisix_common.service import Lifecycle
from aisix_common.settings import Address, Etcd, Settings
from aisix_common.settings.control import Managed
from aisix_common.settings.listeners import Proxy
from aisix_common.settings.observability import Metrics as MetricsSettings
from aisix_common.settings.observability import Observability, Prometheus
from aisix_common.tasks import TaskOwner
from aisix_proxy.app import Process, build

from tests.support.builders import KEY, Lines, Row, chat
from tests.support.etcd import EtcdServer
from tests.support.raw_http import Response, ask, request


def settings(endpoint: str, prefix: str, folder: Path) -> Settings:
    loopback = Address("127.0.0.1", 0)
    return Settings(
        proxy=Proxy(addr=loopback),
        etcd=Etcd(endpoints=(endpoint,), prefix=prefix),
        managed=Managed(snapshot_cache_path=str(folder / "cache")),
        observability=Observability(metrics=MetricsSettings(prometheus=Prometheus(addr=loopback))),
    )


@asynccontextmanager
async def running(made: Settings, worker: int | None = None) -> AsyncIterator[tuple[int, Lifecycle]]:
    """The service, with only its public listener open; gives the port."""
    lifecycle = Lifecycle()
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack, TaskOwner() as tasks:
        listeners = await build(made, Process({}, Lines(), worker), stack, lifecycle, tasks)
        assert [listener.name for listener in listeners] == ["proxy", "metrics"]
        server = listeners[0].make()
        listening = await loop.create_server(server, "127.0.0.1", 0)
        try:
            yield listening.sockets[0].getsockname()[1], lifecycle
        finally:
            listening.close()
            await server.shutdown(1.0)


def put(etcd: EtcdServer, prefix: str, *rows: Row) -> None:
    for kind, id, document in rows:
        etcd.ctl("put", f"{prefix}/{kind}/{id}", json.dumps(document))


async def asked(port: int, key: str = KEY) -> Response:
    return await ask(port, request(key=key, body=chat()))


async def status_becomes(port: int, status: int) -> None:
    async with asyncio.timeout(5):
        while (await asked(port)).status != status:
            await asyncio.sleep(0.01)
