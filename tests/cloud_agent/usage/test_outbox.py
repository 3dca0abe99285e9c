"""Whose turn it is: streams side by side, backlog and age, the fence, and rows that are none."""

import asyncio
import datetime as dt
from pathlib import Path

import pytest

from aisix_cloud_agent.lead.lead import LeadLost
from aisix_cloud_agent.usage.outbox import MOST_AT_ONCE, Outbox
from aisix_common.managed.outbox import BatchName, batch_key, outbox_root, packed
from aisix_common.settings.control import Usage

from tests.cloud_agent.delivering import NOON, Kit, events, kit, running
from tests.support.etcd import EtcdServer


def outbox(k: Kit) -> Outbox:
    return Outbox(
        k.local,
        k.link,
        k.run_root,
        clock=k.time,
        chance=k.chance,
        log=k.log,
        metrics=k.metrics,
        usage=Usage(),
        time=k.time,
    )


async def put(k: Kit, stream: str, number: int, *texts: bytes) -> None:
    await k.local.put(batch_key(k.run_root, BatchName(stream, number)), packed(texts))


async def test_every_stream_is_delivered_in_its_order_and_the_outbox_is_empty_then(
    etcd: EtcdServer, etcd_prefix: str, tmp_path: Path
) -> None:
    async with kit(etcd, etcd_prefix, tmp_path) as k:
        streams = ["s", "s-1", "s0", *(f"t{n:02d}" for n in range(20))]
        for stream in streams:
            for number in (0, 7, 100):
                await put(k, stream, number, *events(f"{stream}.{number:03d}.a", f"{stream}.{number:03d}.b"))
        box = outbox(k)
        async with running(box.run(k.lead)):
            await k.time.until(lambda: len(k.arrived) == 6 * len(streams), step=0.05)
            for stream in streams:
                mine = [each for each in k.arrived if each.partition(".")[0] == stream]
                assert mine == sorted(mine)
            assert (k.ledger.duplicates, set(k.ledger.batches)) == (0, {2})
            await put(k, "late", 1, *events("late"))
            await k.time.until(lambda: k.arrived[-1] == "late", step=0.05)
            await k.time.until(lambda: box.status.backlog == 0, step=0.2)
            assert await k.keys() == []
            assert box.status.last_success is not None
            assert (box.status.oldest, box.status.trouble) == (None, "")
        numbers = k.numbers()
        assert numbers["aisix_cloud_usage_batches_total{delivered}"] == 3 * len(streams) + 1
        assert numbers["aisix_cloud_usage_events_total{}"] == 6 * len(streams) + 1
        assert numbers["aisix_cloud_usage_last_success_timestamp_seconds{}"] >= NOON.timestamp()
        assert not k.lines.entries


async def test_the_backlog_and_its_age_are_known_while_the_cloud_is_away(
    etcd: EtcdServer, etcd_prefix: str, tmp_path: Path
) -> None:
    async with kit(etcd, etcd_prefix, tmp_path) as k:
        k.dp.troubles.add("/dp/telemetry", status=503)
        for number in range(30):
            await put(k, f"s{number % 3}", number, *events(f"r{number}", at=NOON - dt.timedelta(minutes=number + 1)))
        box = outbox(k)
        async with running(box.run(k.lead)):
            await k.time.until(lambda: box.status.backlog == 30 and bool(box.status.trouble))
            assert box.status.oldest == NOON - dt.timedelta(minutes=3), "the first of each stream counts"
            numbers = k.numbers()
            assert numbers["aisix_cloud_usage_backlog_batches{}"] == 30
            assert numbers["aisix_cloud_usage_backlog_age_seconds{}"] >= 180
            k.dp.troubles.clear()
            await k.time.until(lambda: len(k.arrived) == 30 and box.status.backlog == 0, step=0.1)
            assert k.numbers()["aisix_cloud_usage_backlog_age_seconds{}"] == 0
            assert box.status.trouble == ""


async def test_while_the_cloud_is_away_one_call_at_a_time_tries(
    etcd: EtcdServer, etcd_prefix: str, tmp_path: Path
) -> None:
    async with kit(etcd, etcd_prefix, tmp_path) as k:
        k.dp.troubles.add("/dp/telemetry", status=503)
        for stream in range(2 * MOST_AT_ONCE):
            await put(k, f"s{stream}", 0, *events(f"r{stream}"))
        async with running(outbox(k).run(k.lead)):
            await k.time.until(lambda: k.calls("/dp/telemetry") >= MOST_AT_ONCE)
            await k.time.go(300, step=1.0)
            # 1, 2, 4 .. 60 s up to a half less: 5 minutes hold no more than that.
            assert MOST_AT_ONCE + 4 <= k.calls("/dp/telemetry") <= MOST_AT_ONCE + 16
            k.dp.troubles.clear()
            await k.time.until(lambda: len(k.arrived) == 2 * MOST_AT_ONCE, step=0.5)
            assert k.ledger.duplicates == 0
        assert len(k.told("does not take calls")) == len(k.told("takes calls again")) == 1


async def test_whoever_does_not_lead_any_more_deletes_nothing(
    etcd: EtcdServer, etcd_prefix: str, tmp_path: Path
) -> None:
    async with kit(etcd, etcd_prefix, tmp_path) as k:
        await put(k, "s", 0, *events("r"))
        await k.another_leads()
        with pytest.raises(LeadLost):
            await asyncio.wait_for(outbox(k).run(k.lead), 20)
        assert len(await k.keys()) == 1


async def test_whoever_may_have_lost_the_lead_calls_nobody(etcd: EtcdServer, etcd_prefix: str, tmp_path: Path) -> None:
    async with kit(etcd, etcd_prefix, tmp_path) as k:
        await put(k, "s", 0, *events("r"))
        k.held = False
        with pytest.raises(LeadLost):
            await asyncio.wait_for(outbox(k).run(k.lead), 20)
        assert (k.calls("/dp/telemetry"), len(await k.keys())) == (0, 1)


async def test_what_is_no_batch_is_dropped_and_keeps_nobody_waiting(
    etcd: EtcdServer, etcd_prefix: str, tmp_path: Path
) -> None:
    async with kit(etcd, etcd_prefix, tmp_path) as k:
        root = outbox_root(k.run_root)
        await k.local.put(root + "aaa", b"nothing")
        await k.local.put(root + "s/7", b"nothing")
        await k.local.put(batch_key(k.run_root, BatchName("s", 1)), b"no zlib")
        await put(k, "s", 2, b"[]", *events("r-2"), b"{")
        await put(k, "s", 3, *events("r-3"))
        async with running(outbox(k).run(k.lead)):
            await k.time.until(lambda: k.arrived == ["r-2", "r-3"], step=0.05)
            await k.time.go(3)
        assert await k.keys() == []
        numbers = k.numbers()
        assert numbers["aisix_usage_event_drops_total{damaged}"] == 5
        assert numbers["aisix_cloud_usage_batches_total{damaged}"] == 3
        assert numbers["aisix_cloud_usage_batches_total{incomplete}"] == 1
        assert len(k.told("usage events were dropped")) == 1


@pytest.mark.slow
async def test_an_etcd_that_is_away_is_told_once_and_nothing_is_lost(fresh_etcd: EtcdServer, tmp_path: Path) -> None:
    async with kit(fresh_etcd, "/run", tmp_path) as k:
        await put(k, "s", 0, *events("r-0"))
        box = outbox(k)
        async with running(box.run(k.lead)):
            await k.time.until(lambda: k.arrived == ["r-0"], step=0.05)
            await k.time.until(lambda: box.status.backlog == 0, step=0.2)
            await asyncio.to_thread(fresh_etcd.kill)
            await k.time.until(lambda: "etcd" in box.status.trouble, step=0.2)
            await asyncio.to_thread(fresh_etcd.start)
            await put(k, "s", 1, *events("r-1"))
            await k.time.until(lambda: k.arrived == ["r-0", "r-1"], step=0.2)
        assert len(k.told("the outbox cannot be read")) == len(k.told("the outbox can be read again")) == 1
