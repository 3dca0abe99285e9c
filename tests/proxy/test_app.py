"""The whole service in one process, against a real etcd: changes act at once, and nothing is left when it ends."""

import asyncio
from pathlib import Path

from tests.proxy.running import asked, put, running, settings, status_becomes
from tests.support import provider as providers
from tests.support.builders import api_key, model, provider_key, until
from tests.support.etcd import EtcdServer


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
