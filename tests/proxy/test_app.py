"""The whole service in one process, against a real etcd: changes act at once, and nothing is left when it ends."""

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
from aisix_common.store.client import EtcdClient
from aisix_common.store.options import EtcdOptions
from aisix_common.tasks import TaskOwner
from aisix_proxy.app import Process, build

from tests.support import provider as providers
from tests.support.builders import KEY, Lines, Row, api_key, chat, model, provider_key, until
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


async def test_changes_act_on_the_next_request(etcd: EtcdServer, etcd_prefix: str, tmp_path: Path) -> None:
    async with providers.running() as provider:
        async with running(settings(etcd.endpoint, etcd_prefix, tmp_path)) as (port, lifecycle):
            await until(lambda: lifecycle.applied)
            assert (await asked(port)).status == 401
            rows = (provider_key(api_base=provider.base), model(), api_key())
            await asyncio.to_thread(put, etcd, etcd_prefix, *rows)
            await status_becomes(port, 200)
            await asyncio.to_thread(put, etcd, etcd_prefix, api_key(allowed_models=[]))
            await status_becomes(port, 403)
            await asyncio.to_thread(etcd.ctl, "del", f"{etcd_prefix}/api_keys/key-1")
            await status_becomes(port, 401)


async def test_the_row_of_an_instance_tells_what_it_serves(etcd: EtcdServer, etcd_prefix: str, tmp_path: Path) -> None:
    made = settings(etcd.endpoint, etcd_prefix, tmp_path)
    rows = (provider_key(), model(), api_key())
    await asyncio.to_thread(put, etcd, etcd_prefix, *rows)

    async def told(client: EtcdClient) -> str:
        found = await client.range(f"{made.etcd.run_root}/instances/")
        return str(json.loads(found.rows[0].value).get("config_hash", "")) if found.rows else ""

    async with EtcdClient(EtcdOptions(endpoints=(etcd.endpoint,))) as client, running(made):
        async with asyncio.timeout(15):
            while not await told(client):
                await asyncio.sleep(0.1)
        assert len(await told(client)) == 64


async def status_becomes(port: int, status: int) -> None:
    async with asyncio.timeout(5):
        while (await asked(port)).status != status:
            await asyncio.sleep(0.01)


async def test_it_serves_from_its_cache_while_etcd_is_away(fresh_etcd: EtcdServer, tmp_path: Path) -> None:
    async with providers.running() as provider:
        made = settings(fresh_etcd.endpoint, "/aisix", tmp_path)
        rows = (provider_key(api_base=provider.base), model(), api_key())
        await asyncio.to_thread(put, fresh_etcd, "/aisix", *rows)
        async with running(made) as (port, lifecycle):
            await until(lambda: lifecycle.applied)
            await status_becomes(port, 200)
        await asyncio.to_thread(fresh_etcd.kill)
        async with running(made) as (port, lifecycle):
            await until(lambda: lifecycle.applied)
            assert (await asked(port)).status == 200


async def test_workers_that_are_new_serve_what_the_process_before_them_knew(
    fresh_etcd: EtcdServer, tmp_path: Path
) -> None:
    async with providers.running() as provider:
        made = settings(fresh_etcd.endpoint, "/aisix", tmp_path)
        rows = (provider_key(api_base=provider.base), model(), api_key())
        await asyncio.to_thread(put, fresh_etcd, "/aisix", *rows)
        async with running(made, worker=0) as (port, lifecycle):
            await until(lambda: lifecycle.applied)
        await asyncio.to_thread(put, fresh_etcd, "/aisix", api_key(allowed_models=[]))
        async with running(made) as (port, lifecycle):
            await status_becomes(port, 403)
        await asyncio.to_thread(fresh_etcd.kill)
        for worker in (0, 1):
            async with running(made, worker=worker) as (port, lifecycle):
                await until(lambda: lifecycle.applied)
                assert (await asked(port)).status == 403
