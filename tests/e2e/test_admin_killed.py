"""The admin dies in the middle of its writes, again and again: nothing half written, nothing promised is lost."""

import asyncio
import itertools
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from aisix_common.secrets.envelope import new_key
from aisix_common.store.client import EtcdClient, EtcdOptions

from tests.support.consistency import everything
from tests.support.etcd import EtcdServer
from tests.support.gateway import ADMIN_KEY, start, until, write_config

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("e2e")]

ROUNDS = 4
WRITERS = 6


@pytest.mark.slow  # an admin starts four times
@pytest.mark.timeout(90)
async def test_an_admin_that_is_killed_under_writes(etcd: EtcdServer, etcd_prefix: str, tmp_path: Path) -> None:
    (tmp_path / "k1").write_text(new_key())
    keyring = [{"id": "k1", "file": str(tmp_path / "k1")}]
    more = {"admin": {"metrics_addr": ""}, "secrets": {"keyring": keyring}}
    config, ports = write_config(tmp_path, etcd.endpoint, etcd_prefix, more)
    url = f"http://127.0.0.1:{ports[1]}"
    names = itertools.count()
    promised: dict[str, Any] = {}
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}

    async with aiohttp.ClientSession(headers=headers) as http:

        async def ready() -> bool:
            async with http.get(f"{url}/readyz") as answer:
                return answer.status == 200

        async def writer() -> None:
            """Creates, edits and deletes until the admin is gone."""
            while True:
                document = {"display_name": f"key-{next(names)}", "api_key": "secret"}
                try:
                    made = await _asked(http, "POST", f"{url}/admin/v1/provider_keys", document)
                    promised[made["id"]] = document["display_name"]
                    path = f"{url}/admin/v1/provider_keys/{made['id']}"
                    await _asked(http, "PATCH", path, {"strip_headers": []})
                    if next(names) % 3 == 0:
                        promised.pop(made["id"])  # from here on it may be gone or not
                        await _asked(http, "DELETE", path, None)
                except (aiohttp.ClientError, OSError):
                    return

        for turn in range(ROUNDS):
            process = await asyncio.to_thread(start, tmp_path, config, "aisix_admin")
            try:
                await until(ready, 20)
                before = len(promised)
                writers = [asyncio.ensure_future(writer()) for _ in range(WRITERS)]
                await until(partial(_more, promised, before + 5 + 3 * turn))
            finally:
                process.kill()
                await asyncio.to_thread(process.wait)
            await asyncio.wait(writers)

    async with EtcdClient(EtcdOptions(endpoints=(etcd.endpoint,))) as client:
        written = await everything(client, etcd_prefix)
    assert written.require_complete() > 2 * len(promised) > 20
    there = {key.rpartition("/")[2] for key in written.rows if key.startswith(etcd_prefix + "/")}
    assert promised.keys() <= there, "what was answered is there"


async def _asked(http: aiohttp.ClientSession, method: str, url: str, body: Any) -> Any:
    async with http.request(method, url, json=body) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def _more(promised: dict[str, Any], number: int) -> bool:
    return len(promised) > number
