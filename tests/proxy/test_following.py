"""What follows the configuration, over a real etcd: the row that tells of it, and the caches."""

import asyncio
import json
from pathlib import Path

from aisix_common.store.client import EtcdClient
from aisix_common.store.options import EtcdOptions

from tests.proxy.running import asked, put, running, settings, status_becomes
from tests.support import provider as providers
from tests.support.builders import api_key, model, provider_key, until
from tests.support.etcd import EtcdServer


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
