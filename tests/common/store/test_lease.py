"""Leases against a real etcd: kept alive, expired, lost and granted anew, revoked."""

import asyncio
from collections.abc import Callable

import pytest

from aisix_common.errors import StoreRejected, StoreUnavailable
from aisix_common.store.client import EtcdClient, EtcdOptions
from aisix_common.store.lease import LeaseKeeper

from tests.support.cutproxy import CutProxy
from tests.support.etcd import EtcdServer


class Owner:
    """Writes one row per lease, as a service does with its instance row."""

    def __init__(self, client: EtcdClient, key: str, ttl: int = 2) -> None:
        self.leases: list[int] = []
        self.failures = 0
        self._client, self._key = client, key
        self.keeper = LeaseKeeper(client, ttl, self._write)

    async def __aenter__(self) -> "Owner":
        self._task = asyncio.create_task(self.keeper.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _write(self, lease: int) -> None:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("not now")
        await self._client.put(self._key, b"here", lease=lease)
        self.leases.append(lease)


async def _until(condition: Callable[[], bool], timeout: float = 8.0) -> None:
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_lease_and_its_rows_expire(client: EtcdClient, etcd_prefix: str) -> None:
    lease = await client.grant(60)
    await client.put(etcd_prefix, b"1", lease=lease)
    row = await client.get(etcd_prefix)
    assert row is not None and row.lease == lease
    assert 58 <= await client.time_to_live(lease) <= 60
    assert await client.keep_alive(lease) == 60
    await client.revoke(lease)
    assert await client.get(etcd_prefix) is None
    assert await client.keep_alive(lease) == 0
    assert await client.time_to_live(lease) == -1
    with pytest.raises(StoreRejected, match="lease not found"):
        await client.revoke(lease)
    with pytest.raises(StoreRejected, match="lease not found"):
        await client.put(etcd_prefix, b"1", lease=lease)


async def test_kept_beyond_its_time_and_revoked_at_the_end(client: EtcdClient, etcd_prefix: str) -> None:
    short = await client.grant(1)  # etcd's clock for "longer than the time to live": this one must be gone first
    async with Owner(client, etcd_prefix) as owner:
        await _until(lambda: len(owner.leases) == 1)
        started = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() < started + 3 or await client.time_to_live(short) >= 0:
            assert await client.get(etcd_prefix) is not None
            await asyncio.sleep(0.1)
        assert len(owner.leases) == 1
    assert await client.get(etcd_prefix) is None, "revoked, not left to run out"
    assert owner.keeper.lease == 0


async def test_granted_anew_after_a_loss(client: EtcdClient, etcd_prefix: str) -> None:
    async with Owner(client, etcd_prefix) as owner:
        await _until(lambda: len(owner.leases) == 1)
        await client.revoke(owner.leases[0])
        await _until(lambda: len(owner.leases) == 2)
        row = await client.get(etcd_prefix)
        assert row is not None and row.lease == owner.leases[1] == owner.keeper.lease


async def test_rows_are_written_again_when_that_failed(client: EtcdClient, etcd_prefix: str) -> None:
    owner = Owner(client, etcd_prefix)
    owner.failures = 2
    async with owner:
        await _until(lambda: len(owner.leases) == 1)
        assert await client.get(etcd_prefix) is not None
        await _until(lambda: owner.keeper.trouble == "")


async def test_survives_an_etcd_that_is_replaced(fresh_etcd: EtcdServer) -> None:
    async with EtcdClient(EtcdOptions(endpoints=(fresh_etcd.endpoint,))) as client, Owner(client, "/x") as owner:
        await _until(lambda: len(owner.leases) == 1)
        await asyncio.to_thread(fresh_etcd.replace)
        await _until(lambda: len(owner.leases) == 2)


async def test_an_unreachable_etcd_is_trouble_and_stopping_stays_quick(fresh_etcd: EtcdServer) -> None:
    async with CutProxy(fresh_etcd.port) as link:
        options = EtcdOptions(endpoints=(link.endpoint,), request_timeout=0.5)
        async with EtcdClient(options) as client:
            async with Owner(client, "/x") as owner:
                await _until(lambda: len(owner.leases) == 1)
                link.black_hole()
                await _until(lambda: owner.keeper.trouble != "")
                before = asyncio.get_running_loop().time()
            assert asyncio.get_running_loop().time() - before < 2.5


def test_a_lease_must_be_long_enough() -> None:
    with pytest.raises(ValueError):
        LeaseKeeper(EtcdClient(EtcdOptions(endpoints=("127.0.0.1:1",))), 1, lambda lease: asyncio.sleep(0))
