"""A cluster of three: the member in use dies, and a member that lost its leader must not look healthy."""

import asyncio
from pathlib import Path

from aisix_common.errors import StoreUnavailable
from aisix_common.store.client import EtcdClient, EtcdOptions

from tests.support.etcd import EtcdCluster
from tests.support.follower import Follower


async def _elected(client: EtcdClient) -> None:
    """Calls in flight on a dead leader cost their whole deadline, and writes are not repeated: wait with reads."""
    async with asyncio.timeout(15):
        while True:
            try:
                await client.get("/x/")
                return
            except StoreUnavailable:
                pass


async def test_members_die_one_by_one(tmp_path: Path) -> None:
    with EtcdCluster(tmp_path) as cluster:
        options = EtcdOptions(endpoints=cluster.endpoints, request_timeout=2)
        async with EtcdClient(options) as client, Follower(client, "/x/") as follower:
            await follower.until(lambda: follower.alive > 0)
            for number, member in enumerate(cluster.members):
                await asyncio.to_thread(member.kill)
                await _elected(client)
                await client.put(f"/x/{number}", b"1")
                await follower.until(lambda: f"/x/{number}" in follower.rows)  # noqa: B023 - awaited at once
                await asyncio.to_thread(member.start)
            assert follower.listings == 1 and len(follower.applied) == 3


async def test_a_member_without_a_leader_ends_its_watches(tmp_path: Path) -> None:
    with EtcdCluster(tmp_path) as cluster:
        left, *others = cluster.members
        options = EtcdOptions(endpoints=(left.endpoint,), request_timeout=1)
        async with EtcdClient(options) as client, Follower(client, "/x/") as follower:
            await follower.until(lambda: follower.alive > 0)
            for member in others:
                await asyncio.to_thread(member.kill)
            await follower.until(lambda: any("leader" in reason for reason in follower.lost))
            await asyncio.to_thread(others[0].start)
            async with EtcdClient(EtcdOptions(endpoints=(others[0].endpoint,))) as writer:
                await writer.put("/x/a", b"1")
            await follower.until(lambda: "/x/a" in follower.rows)
            assert follower.listings == 1
