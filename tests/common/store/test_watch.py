"""The watcher against a real etcd that is killed, cut off, compacted, restored and replaced."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aisix_common.secret import Secret
from aisix_common.store.client import EtcdClient, EtcdOptions
from aisix_common.store.types import Delete, Put
from aisix_common.store.watch import WatchTuning, list_all, progress_is_in_step

from tests.support.cutproxy import CutProxy
from tests.support.etcd import EtcdServer
from tests.support.follower import Follower


@pytest.fixture
async def link(fresh_etcd: EtcdServer) -> AsyncIterator[CutProxy]:
    async with CutProxy(fresh_etcd.port) as link:
        yield link


@pytest.fixture
async def linked(link: CutProxy) -> AsyncIterator[EtcdClient]:
    """A client that reaches `fresh_etcd` only through `link`."""
    async with EtcdClient(EtcdOptions(endpoints=(link.endpoint,), request_timeout=2.0)) as client:
        yield client


async def _write(client: EtcdClient, count: int, *, size: int = 1, start: int = 0) -> list[str]:
    """`count` rows, 50 to a transaction."""
    keys = [f"/x/{number:06}" for number in range(start, start + count)]
    for at in range(0, count, 50):
        await client.txn((), [Put(key, b"v" * size) for key in keys[at : at + 50]])
    return keys


async def test_lists_then_tells_every_change_in_order(client: EtcdClient, etcd_prefix: str) -> None:
    await client.put(f"{etcd_prefix}/a", b"1")
    await client.put(f"{etcd_prefix}x/sibling", b"1")
    async with Follower(client, f"{etcd_prefix}/") as follower:
        await follower.until(lambda: follower.listings == 1)
        assert set(follower.rows) == {f"{etcd_prefix}/a"}
        await client.put(f"{etcd_prefix}/b", b"2")
        await client.put(f"{etcd_prefix}x/sibling", b"2")
        last = await client.put(f"{etcd_prefix}/b", b"3")
        await client.delete(f"{etcd_prefix}/a")
        await follower.until(lambda: follower.revision > last)
        assert [key[-1] for key, _ in follower.applied] == ["b", "b", "a"]
        assert [row.value for row in follower.rows.values()] == [b"3"]


async def test_a_transaction_is_one_batch(client: EtcdClient, etcd_prefix: str) -> None:
    async with Follower(client, etcd_prefix) as follower:
        await follower.until(lambda: follower.listings == 1)
        await client.txn((), [Put(f"{etcd_prefix}/{number}", b"x") for number in range(100)])
        await follower.until(lambda: len(follower.rows) == 100)
        assert follower.batches == [100]


async def test_a_listing_is_read_in_pages_at_one_revision(client: EtcdClient, etcd_prefix: str) -> None:
    await client.txn((), [Put(f"{etcd_prefix}/{number:03}", b"x") for number in range(100)])
    listing = await list_all(client, etcd_prefix, WatchTuning(page=7, slice=3))
    assert [row.key for row in listing.rows] == [f"{etcd_prefix}/{number:03}" for number in range(100)]


async def test_changes_while_etcd_restarts_are_not_lost(
    fresh_etcd: EtcdServer, linked: EtcdClient, fresh_client: EtcdClient, link: CutProxy
) -> None:
    """The write lands before the watcher is back, on a watch that never saw an event."""
    async with Follower(linked, "/x/") as follower:
        await follower.until(lambda: follower.alive > 0)
        await link.refuse()
        await asyncio.to_thread(fresh_etcd.restart)
        await fresh_client.put("/x/while-away", b"1")
        await follower.until(lambda: len(follower.lost) > 0)
        await link.heal()
        await follower.until(lambda: "/x/while-away" in follower.rows)
        assert follower.listings == 1, "the watch was resumed, not started over"


async def test_a_killed_etcd_is_followed_again(fresh_etcd: EtcdServer, fresh_client: EtcdClient) -> None:
    async with Follower(fresh_client, "/x/") as follower:
        await follower.until(lambda: follower.alive > 0)
        for number in range(3):
            await asyncio.to_thread(fresh_etcd.restart)
            await fresh_client.put(f"/x/{number}", b"1")
        await follower.until(lambda: len(follower.rows) == 3)
        assert len(follower.applied) == 3


async def test_compaction_under_a_cut_watch_lists_again(
    linked: EtcdClient, fresh_client: EtcdClient, link: CutProxy
) -> None:
    await fresh_client.put("/x/gone", b"1")
    async with Follower(linked, "/x/") as follower:
        await follower.until(lambda: follower.alive > 0)
        await link.refuse()
        await fresh_client.delete("/x/gone")
        await _write(fresh_client, 10)
        await fresh_client.compact(await fresh_client.put("/x/last", b"1"))
        await link.heal()
        await follower.until(lambda: "/x/last" in follower.rows)
        assert follower.listings == 2
        assert len(follower.rows) == 11 and "/x/gone" not in follower.rows


async def test_a_reset_in_the_middle_of_a_backlog_loses_and_doubles_nothing(
    linked: EtcdClient, fresh_client: EtcdClient, link: CutProxy
) -> None:
    async with Follower(linked, "/x/") as follower:
        await follower.until(lambda: follower.alive > 0)
        await link.refuse()
        for start in range(0, 3000, 500):
            await asyncio.gather(*(fresh_client.put(f"/x/{start + n:06}", b"v" * 500) for n in range(500)))
        link.cut_after(600_000)
        await link.heal()
        await follower.until(lambda: len(follower.applied) >= 3000)
        assert not link.cut_pending
        assert follower.listings == 1
        assert len({key for key, _ in follower.applied}) == len(follower.applied) == 3000


async def test_a_backlog_of_20_megabytes_arrives_whole(
    linked: EtcdClient, fresh_client: EtcdClient, link: CutProxy
) -> None:
    async with Follower(linked, "/x/") as follower:
        await follower.until(lambda: follower.alive > 0)
        await link.refuse()
        await _write(fresh_client, 1000, size=20_000)
        await link.heal()
        await follower.until(lambda: len(follower.rows) == 1000)
        assert follower.listings == 1 and len(follower.applied) == 1000
        assert sum(len(row.value) for row in follower.rows.values()) == 20_000_000


async def test_a_silent_link_is_noticed_by_the_probe(
    linked: EtcdClient, fresh_client: EtcdClient, link: CutProxy
) -> None:
    async with Follower(linked, "/x/") as follower:
        await follower.until(lambda: follower.alive > 0)
        link.black_hole()
        await fresh_client.put("/x/a", b"1")
        await follower.until(lambda: len(follower.lost) > 0)
        assert "silent" in follower.lost[0]
        await link.heal(revive=True)
        await follower.until(lambda: "/x/a" in follower.rows)
        assert len(follower.applied) == 1 and follower.listings == 1


async def test_a_silent_link_is_noticed_by_pings(tmp_path: Path) -> None:
    """Without probes of ours, HTTP/2 pings end it: interval and ping timeout are the client's options."""
    with EtcdServer(tmp_path, arguments=("--grpc-keepalive-min-time", "100ms")) as server:
        async with CutProxy(server.port) as link:
            options = EtcdOptions(endpoints=(link.endpoint,), ping_interval=0.5, ping_timeout=0.5)
            patient = WatchTuning(probe_interval=60, first_delay=0.02, longest_delay=0.2)
            async with EtcdClient(options) as client, Follower(client, "/x/", patient) as follower:
                await follower.until(lambda: follower.alive > 0)
                link.black_hole()
                await follower.until(lambda: len(follower.lost) > 0, timeout=5)
                assert "silent" not in follower.lost[0]


async def test_a_hanging_etcd_is_noticed(fresh_etcd: EtcdServer, fresh_client: EtcdClient) -> None:
    async with Follower(fresh_client, "/x/") as follower:
        await follower.until(lambda: follower.alive > 0)
        fresh_etcd.pause()
        await follower.until(lambda: len(follower.lost) > 0)
        fresh_etcd.resume()
        await fresh_client.put("/x/a", b"1")
        await follower.until(lambda: "/x/a" in follower.rows)
        assert follower.listings == 1


async def test_an_emptied_then_restored_prefix(linked: EtcdClient, fresh_client: EtcdClient, link: CutProxy) -> None:
    keys = await _write(fresh_client, 100)
    async with Follower(linked, "/x/") as follower:
        await follower.until(lambda: len(follower.rows) == 100)
        await fresh_client.delete("/x/", prefix=True)
        await follower.until(lambda: not follower.rows)
        await _write(fresh_client, 100)
        await follower.until(lambda: len(follower.rows) == 100)
        await link.refuse()
        await fresh_client.txn((), [Delete("/x/", prefix=True)])
        await _write(fresh_client, 50)
        await link.heal()
        await follower.until(lambda: len(follower.rows) == 50)
        assert sorted(follower.rows) == keys[:50] and follower.listings == 1


async def test_an_etcd_restored_from_an_older_snapshot_is_listed_anew(
    fresh_etcd: EtcdServer, fresh_client: EtcdClient, tmp_path: Path
) -> None:
    await fresh_client.put("/x/kept", b"1")
    await asyncio.to_thread(fresh_etcd.snapshot, tmp_path / "backup")
    async with Follower(fresh_client, "/x/") as follower:
        await follower.until(lambda: follower.listings == 1)
        await _write(fresh_client, 100)
        await follower.until(lambda: len(follower.rows) == 101)
        before = follower.revision
        await asyncio.to_thread(fresh_etcd.restore, tmp_path / "backup")
        await follower.until(lambda: follower.listings == 2)
        assert set(follower.rows) == {"/x/kept"} and follower.revision < before
        await fresh_client.put("/x/new", b"1")
        await follower.until(lambda: "/x/new" in follower.rows)


async def test_a_restored_etcd_that_was_written_past_our_revision_is_listed_anew(
    fresh_etcd: EtcdServer, linked: EtcdClient, fresh_client: EtcdClient, link: CutProxy, tmp_path: Path
) -> None:
    """Revision and cluster id look fine by the time the watcher is back: only the history tells."""
    await fresh_client.put("/x/kept", b"1")
    await asyncio.to_thread(fresh_etcd.snapshot, tmp_path / "backup")
    async with Follower(linked, "/x/") as follower:
        await follower.until(lambda: follower.alive > 0)
        await fresh_client.put("/x/undone", b"1")
        await follower.until(lambda: "/x/undone" in follower.rows)
        await link.refuse()
        await asyncio.to_thread(fresh_etcd.restore, tmp_path / "backup")
        for number in range(5):
            await fresh_client.put("/x/other", b"%d" % number)
        await link.heal()
        await follower.until(lambda: follower.listings == 2)
        assert set(follower.rows) == {"/x/kept", "/x/other"}


async def test_a_replaced_etcd_is_listed_anew(
    fresh_etcd: EtcdServer, linked: EtcdClient, fresh_client: EtcdClient, link: CutProxy
) -> None:
    await _write(fresh_client, 3)
    async with Follower(linked, "/x/") as follower:
        await follower.until(lambda: len(follower.rows) == 3)
        await link.refuse()
        await asyncio.to_thread(fresh_etcd.replace)
        for number in range(8):
            await fresh_client.put("/x/other", b"%d" % number)
        await link.heal()
        await follower.until(lambda: follower.listings == 2)
        assert set(follower.rows) == {"/x/other"}


async def test_an_idle_prefix_moves_on_while_others_write(tmp_path: Path) -> None:
    """Progress notices advance the watch, so that a compaction does not force a new listing."""
    notice = ("--experimental-watch-progress-notify-interval", "100ms")
    with EtcdServer(tmp_path, arguments=notice) as server:
        async with EtcdClient(EtcdOptions(endpoints=(server.endpoint,))) as writer, CutProxy(server.port) as link:
            async with (
                EtcdClient(EtcdOptions(endpoints=(link.endpoint,))) as client,
                Follower(client, "/x/") as follower,
            ):
                await follower.until(lambda: follower.alive > 0)
                for number in range(20):
                    revision = await writer.put("/elsewhere", b"%d" % number)
                await follower.until(lambda: follower.revision >= revision)
                await writer.compact(revision)
                await link.refuse()
                await writer.put("/x/a", b"1")
                await link.heal()
                await follower.until(lambda: "/x/a" in follower.rows)
                assert follower.listings == 1


async def test_an_idle_prefix_compacted_under_an_old_etcd_is_listed_again(
    linked: EtcdClient, fresh_client: EtcdClient, link: CutProxy
) -> None:
    async with Follower(linked, "/x/") as follower:
        await follower.until(lambda: follower.alive > 0)
        await link.refuse()
        for number in range(20):
            revision = await fresh_client.put("/elsewhere", b"%d" % number)
        await fresh_client.put("/x/a", b"1")
        await fresh_client.compact(revision)
        await link.heal()
        await follower.until(lambda: "/x/a" in follower.rows)


async def test_a_forgotten_token_is_renewed_under_a_watch(fresh_etcd: EtcdServer) -> None:
    fresh_etcd.enable_auth("gateway", "pass word")
    options = EtcdOptions(endpoints=(fresh_etcd.endpoint,), user="gateway", password=Secret("pass word"))
    async with EtcdClient(options) as client, EtcdClient(options) as writer, Follower(client, "/x/") as follower:
        await follower.until(lambda: follower.alive > 0)
        await asyncio.to_thread(fresh_etcd.stop)  # cleanly: after a kill it may replay the login, and know the token
        await asyncio.to_thread(fresh_etcd.start)
        await writer.put("/x/a", b"1")
        await follower.until(lambda: "/x/a" in follower.rows)
        assert follower.listings == 1


async def test_an_unreachable_etcd_is_told_and_does_not_spin(
    fresh_etcd: EtcdServer, linked: EtcdClient, link: CutProxy
) -> None:
    await link.refuse()
    async with Follower(linked, "/x/", WatchTuning(first_delay=0.1, longest_delay=0.2)) as follower:
        await follower.until(lambda: len(follower.lost) >= 3)
        assert link.endpoint.removeprefix("http://") in follower.lost[0]
        await link.heal()
        await follower.until(lambda: follower.listings == 1)


async def test_closing_leaves_no_task_behind(client: EtcdClient, etcd_prefix: str) -> None:
    await client.get("warm up")
    before = asyncio.all_tasks()
    for _ in range(3):
        async with Follower(client, etcd_prefix) as follower:
            await follower.until(lambda: follower.alive > 0)
    async with asyncio.timeout(5):
        while not asyncio.all_tasks() <= before:  # gRPC's own tasks end when its thread has said so
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("3.4.23", False),
        ("3.4.30", False),
        ("3.4.31", True),
        ("3.5.1", False),
        ("3.5.12", False),
        ("3.5.13", True),
        ("3.6.0-rc.1", True),
        ("", False),
        ("unknown", False),
    ],
)
def test_which_etcds_answer_progress_requests_in_step(version: str, expected: bool) -> None:
    assert progress_is_in_step(version) is expected


async def test_probes_between_many_writes_raise_no_false_alarm(client: EtcdClient, etcd_prefix: str) -> None:
    """Older etcds send an answer to a probe after events that came later: its revision is then below ours."""
    hasty = WatchTuning(probe_interval=0.001, answer_timeout=5)
    async with Follower(client, etcd_prefix, hasty) as follower:
        await follower.until(lambda: follower.alive > 0)
        for at in range(0, 1500, 50):
            await asyncio.gather(*(client.put(f"{etcd_prefix}/{at + number}", b"1") for number in range(50)))
        await follower.until(lambda: len(follower.rows) == 1500)
        assert follower.listings == 1 and not follower.lost
