"""Decisions into etcd: what is read at the start, how many writes there are, and the fence."""

import asyncio
from pathlib import Path

import pytest

from aisix_cloud_agent.budgets.publishing import BudgetPublishing
from aisix_cloud_agent.budgets.rows import DecidedRows
from aisix_cloud_agent.lead.lead import LeadLost
from aisix_common.managed.budgets import SHARDS, Decision, decided_root
from aisix_common.store.client import EtcdClient, EtcdOptions

from tests.cloud_agent.delivering import Kit, kit, running
from tests.support.etcd import EtcdServer


def publishing(k: Kit) -> BudgetPublishing:
    return BudgetPublishing(k.local, k.run_root, k.lead, k.time, k.chance, k.log)


async def versions(k: Kit) -> list[int]:
    """How often each row was written."""
    return [row.version for row in (await k.local.range(decided_root(k.run_root))).rows]


async def test_what_is_written_is_read_by_the_next_leader(etcd: EtcdServer, etcd_prefix: str, tmp_path: Path) -> None:
    async with kit(etcd, etcd_prefix, tmp_path) as k:
        first, rows = publishing(k), DecidedRows(set())
        for n in range(500):
            rows.put(f"key-{n}", Decision(n % 2 == 0, 7), k.time.monotonic())
        async with running(first.run(rows)):
            first.moved()
            await k.time.until(lambda: rows.due(k.time.monotonic()) == [], step=0.01)
        assert await versions(k) == [1] * SHARDS
        again = DecidedRows(set())
        await publishing(k).load(again)
        assert [again.get(f"key-{n}") for n in range(500)] == [Decision(n % 2 == 0, 7) for n in range(500)]
        assert again.next_due() == float("inf")


async def test_a_burst_of_new_keys_is_one_write_of_each_row(etcd: EtcdServer, etcd_prefix: str, tmp_path: Path) -> None:
    async with kit(etcd, etcd_prefix, tmp_path) as k:
        writer, rows = publishing(k), DecidedRows(set())
        async with running(writer.run(rows)):
            await asyncio.sleep(0)
            for n in range(200):
                rows.put(f"key-{n}", Decision(True, 7), k.time.monotonic())
                writer.moved()
                await asyncio.sleep(0)
            await k.time.until(lambda: rows.due(k.time.monotonic()) == [], step=0.002)
        assert max(await versions(k)) == 1


async def test_whoever_does_not_lead_any_more_writes_nothing(
    etcd: EtcdServer, etcd_prefix: str, tmp_path: Path
) -> None:
    async with kit(etcd, etcd_prefix, tmp_path) as k:
        await k.another_leads()
        writer, rows = publishing(k), DecidedRows(set())
        rows.put("key", Decision(True, 7), 0.0)
        async with running(writer.run(rows)) as task:
            await k.time.until(task.done, step=0.01)
            with pytest.raises(LeadLost):
                task.result()
        assert await k.keys() == []


async def test_an_etcd_that_is_away_is_told_once_and_tried_again(
    etcd: EtcdServer, etcd_prefix: str, tmp_path: Path
) -> None:
    async with kit(etcd, etcd_prefix, tmp_path) as k:
        async with EtcdClient(EtcdOptions(endpoints=("http://127.0.0.1:1",), request_timeout=0.05)) as k.local:
            writer, rows = publishing(k), DecidedRows(set())
            async with running(writer.load(rows)) as task:
                await k.time.until(lambda: bool(writer.trouble), step=0.01)
                await k.time.go(20)
                assert not task.done()
        assert len(k.told("cannot be read or written")) == 1
