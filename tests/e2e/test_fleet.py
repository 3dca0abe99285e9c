"""Receipts, the list of instances and the overlap of a rotated key, with processes that come and go."""

import asyncio
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from aisix_common.resources import hash_key

from tests.support.etcd import EtcdServer
from tests.support.gateway import Gateway, running, start, until, write_config
from tests.support.provider import Provider

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("e2e")]


async def instances(gateway: Gateway) -> list[dict[str, Any]]:
    return list(await gateway.call("GET", "instances"))


@pytest.mark.slow  # a lease has to run out
@pytest.mark.timeout(120)
async def test_receipts_of_proxies_that_come_and_go(fresh_etcd: EtcdServer, provider: Provider, tmp_path: Path) -> None:
    async with running(tmp_path / "one", fresh_etcd.endpoint, more={"proxy": {"workers": 2}}) as gateway:
        await gateway.serve(provider.base)
        await until(lambda: _count(gateway, 2))
        key = {"display_name": "k", "allowed_models": ["*"]}
        made = await gateway.call("POST", "api_keys?wait=10s", key)
        assert made["applied"] == {"instances": 2, "of": 2, "revision": made["revision"]}
        assert (await gateway.chat("hi", key=made["plaintext"]))[0] == 200, "used by every worker"

        (tmp_path / "two").mkdir()
        config, _ = write_config(tmp_path / "two", fresh_etcd.endpoint, "/aisix", {})
        other = await asyncio.to_thread(start, tmp_path / "two", config, "aisix_proxy")
        try:
            await until(lambda: _count(gateway, 3))
            # It stops as it was told to, and nobody misses it.
            other.send_signal(signal.SIGTERM)
            await asyncio.to_thread(other.wait, 20)
            await until(lambda: _count(gateway, 2))
            assert all("lost_at" not in one for one in await instances(gateway))
            # One that is killed is missed for ten minutes.
            other = await asyncio.to_thread(start, tmp_path / "two", config, "aisix_proxy")
            await until(lambda: _count(gateway, 3))
        finally:
            _kill(other)
        await until(lambda: _lost(gateway), seconds=30)
        changed = await gateway.call(
            "PUT", f"api_keys/{made['id']}?wait=500ms", {**key, "key_hash": made["value"]["key_hash"]}
        )
        assert (changed["applied"]["instances"], changed["applied"]["of"]) == (2, 3)


async def _count(gateway: Gateway, expected: int) -> bool:
    rows = await instances(gateway)
    return len(rows) == expected and all(row["applied_revision"] > 0 and "lost_at" not in row for row in rows)


async def _lost(gateway: Gateway) -> bool:
    return any("lost_at" in row for row in await instances(gateway))


def _kill(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


async def test_a_key_whose_hash_was_rotated_away(gateway: Gateway) -> None:
    made = await gateway.call("POST", "api_keys", {"display_name": "rotated", "allowed_models": ["*"]})
    answer = await gateway.call("POST", f"api_keys/{made['id']}/rotate?wait=10s", {"overlap_seconds": 2})
    old, new = made["plaintext"], answer["plaintext"]
    assert hash_key(old) != hash_key(new)
    assert (await gateway.chat("hi", key=new))[0] == 200
    assert (await gateway.chat("hi", key=old))[0] == 200

    async def over() -> bool:
        return (await gateway.chat("hi", key=old))[0] == 401

    await until(over)
    assert (await gateway.chat("hi", key=new))[0] == 200
