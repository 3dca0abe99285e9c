"""One stream's batches: at least once and in order, whatever the Cloud answers, and what is given up and when."""

import asyncio
import datetime as dt
import json
from pathlib import Path

import pytest

from aisix_cloud_agent.cloud.link import CloudUnavailable
from aisix_cloud_agent.identity.identity import Identity
from aisix_cloud_agent.usage.stream import MOST_ASIDE, about_events
from aisix_common.settings.control import Usage
from aisix_common.store.client import EtcdClient

from .test_outbox import outbox, put
from tests.cloud_agent.delivering import NOON, Kit, events, kit, poison, running
from tests.support.etcd import EtcdServer

WEEK = dt.timedelta(seconds=Usage().max_age_secs)


def names(first: int, count: int) -> list[str]:
    return [f"r{first + n:04d}" for n in range(count)]


def dropped(k: Kit) -> dict[str, float]:
    """Drops by reason."""
    found = {reason: k.numbers()[f"aisix_usage_event_drops_total{{{reason}}}"] for reason in ("refused", "expired")}
    return {reason: number for reason, number in found.items() if number}


@pytest.mark.parametrize(
    ("status", "about"),
    [(400, True), (409, True), (413, True), (422, True), (401, False), (403, False), (404, False), (302, False)],
)
def test_only_some_refusals_are_about_the_events(status: int, about: bool) -> None:
    assert about_events(status) is about


async def test_lost_answers_bring_events_twice_and_never_out_of_order(
    etcd: EtcdServer, etcd_prefix: str, tmp_path: Path
) -> None:
    async with kit(etcd, etcd_prefix, tmp_path) as k:
        k.dp.troubles.add("/dp/telemetry", lost=True, times=2)
        k.dp.troubles.add("/dp/telemetry", status=429, times=1)
        k.dp.troubles.add("/dp/telemetry", status=500, times=1)
        for number in range(5):
            await put(k, "s", number, *events(*names(10 * number, 10)))
        async with running(outbox(k).run(k.lead)):
            await k.time.until(lambda: len(k.arrived) == 50, step=0.1)
        assert k.arrived == names(0, 50)
        assert (k.ledger.duplicates, k.ledger.conflicts) == (20, 0), "two answers were lost"
        assert dropped(k) == {}


async def test_a_batch_whose_delete_got_lost_is_delivered_again(
    etcd: EtcdServer, etcd_prefix: str, tmp_path: Path
) -> None:
    async with kit(etcd, etcd_prefix, tmp_path) as k:
        box = outbox(k)
        async with running(box.run(k.lead)):
            await put(k, "s", 0, *events(*names(0, 10)))
            await k.time.until(lambda: len(k.arrived) == 10, step=0.1)
            await k.time.until(lambda: box.status.last_success is not None and box.status.backlog == 0, step=0.3)
            await put(k, "s", 0, *events(*names(0, 10)))
            await k.time.until(lambda: k.ledger.duplicates == 10, step=0.1)
            await k.time.go(3)
        assert k.ledger.conflicts == 0
        assert await k.keys() == []


async def test_a_row_that_is_written_anew_while_it_is_delivered_is_not_deleted_unread(
    etcd: EtcdServer, etcd_prefix: str, tmp_path: Path
) -> None:
    async with kit(etcd, etcd_prefix, tmp_path) as k:
        k.dp.troubles.add("/dp/telemetry", delay=0.2, times=1)
        await put(k, "s", 0, *events("r0000"))
        async with running(outbox(k).run(k.lead)):
            await asyncio.sleep(0.05)
            await put(k, "s", 0, *events("r0000", "r0001"))
            await k.time.until(lambda: k.arrived == names(0, 2), step=0.02)
            assert (k.ledger.duplicates, k.ledger.conflicts) == (1, 0)


@pytest.mark.parametrize(("first", "second"), [(30, 60), (0, 0), (98, 98)])
async def test_poison_is_found_the_stream_goes_on_and_it_is_given_up_at_the_third_refusal(
    etcd: EtcdServer, etcd_prefix: str, tmp_path: Path, first: int, second: int
) -> None:
    async with kit(etcd, etcd_prefix, tmp_path) as k:
        good = events(*names(0, 98))
        await put(k, "s", 0, *good[:first], poison("p-1"), *good[first:second], poison("p-2"), *good[second:])
        for number in range(1, 4):
            await put(k, "s", number, *events(*names(98 + 2 * number - 2, 2)))
        box = outbox(k)
        async with running(box.run(k.lead)):
            await k.time.until(lambda: len(k.arrived) == 104, step=0.01)
            assert k.arrived == names(0, 104), "and in their order"
            assert k.ledger.duplicates == 0
            assert k.calls("/dp/telemetry") < 40
            await k.time.until(lambda: box.status.set_aside == 1 and box.status.backlog == 1, step=0.1)
            await k.time.go(110, step=1.0)
            assert dropped(k) == {}, "twice refused, in less than two minutes"
            assert len(await k.keys()) == 1
            await k.time.until(lambda: box.status.backlog == 0, step=0.5)
        assert dropped(k) == {"refused": 2}
        assert k.ledger.duplicates == 0
        (line,) = k.told("usage events were dropped")
        assert (line["request_ids"], line["events"]) == (["p-1", "p-2"], 2)
        numbers = k.numbers()
        assert numbers["aisix_cloud_usage_batches_total{incomplete}"] == 1
        assert numbers["aisix_cloud_usage_batches_total{delivered}"] == 3


async def test_a_cloud_that_refuses_everybody_costs_nobody_an_event(
    etcd: EtcdServer, etcd_prefix: str, tmp_path: Path
) -> None:
    async with kit(etcd, etcd_prefix, tmp_path) as k:
        k.dp.troubles.add("/dp/telemetry", status=422)
        batches = MOST_ASIDE + 4
        for number in range(batches):
            await put(k, "s", number, *events(*names(10 * number, 10)))
        box = outbox(k)
        async with running(box.run(k.lead)):
            await k.time.until(lambda: box.status.set_aside == MOST_ASIDE, step=1.0)
            await k.time.go(1800, step=10.0)
            assert box.status.set_aside == MOST_ASIDE, "the others wait"
            assert k.calls("/dp/telemetry") < 64 * MOST_ASIDE, "half an hour"
            assert dropped(k) == {}
            k.dp.troubles.clear()
            await k.time.until(lambda: len(k.arrived) >= 10 * batches, step=10.0)
            assert len(k.arrived) == 10 * batches, (len(k.arrived), len(set(k.arrived)))
            await k.time.until(lambda: box.status.backlog == 0, step=1.0)
        assert dropped(k) == {}
        assert (k.ledger.duplicates, k.ledger.conflicts) == (0, 0)


async def test_what_is_too_large_goes_in_halves(etcd: EtcdServer, etcd_prefix: str, tmp_path: Path) -> None:
    async with kit(etcd, etcd_prefix, tmp_path) as k:
        k.dp.troubles.add("/dp/telemetry", status=413, times=2)
        await put(k, "s", 0, *events(*names(0, 100)))
        await put(k, "s", 1, *events(*names(100, 250)))
        async with running(outbox(k).run(k.lead)):
            await k.time.until(lambda: len(k.arrived) == 350, step=0.1)
        assert k.arrived == names(0, 350)
        assert k.ledger.batches == [25, 25, 50, 100, 100, 50]


@pytest.mark.parametrize("status", [401, 404])
async def test_trouble_with_who_we_are_drops_nothing(
    etcd: EtcdServer, etcd_prefix: str, tmp_path: Path, status: int
) -> None:
    async with kit(etcd, etcd_prefix, tmp_path) as k:
        k.dp.troubles.add("/dp/telemetry", status=status)
        await put(k, "s", 0, *events(*names(0, 2)))
        box = outbox(k)
        async with running(box.run(k.lead)):
            await k.time.until(lambda: str(status) in box.status.trouble, step=0.1)
            await k.time.go(600, step=5.0)
            assert k.calls("/dp/telemetry") < 25
            k.dp.troubles.clear()
            await k.time.until(lambda: k.arrived == names(0, 2), step=1.0)
        assert dropped(k) == {}


async def test_what_is_too_old_is_given_up_only_after_the_cloud_was_tried(
    etcd: EtcdServer, etcd_prefix: str, tmp_path: Path
) -> None:
    async with kit(etcd, etcd_prefix, tmp_path) as k:
        old = NOON - WEEK - dt.timedelta(seconds=1)
        await put(k, "taken", 0, *events("taken", at=old))
        box = outbox(k)
        async with running(box.run(k.lead)):
            await k.time.until(lambda: k.arrived == ["taken"], step=0.02)
            k.dp.troubles.add("/dp/telemetry", status=503)
            for number in range(20):
                await put(k, "s", number, *events(f"old{number}", at=old))
            await put(k, "s", 20, *events("mixed", at=old), *events("young"))
            await k.time.until(lambda: dropped(k) == {"expired": 20}, step=0.5)
            assert k.time.passed < 120, "they do not wait one by one"
            k.dp.troubles.clear()
            await k.time.until(lambda: k.arrived == ["taken", "mixed", "young"], step=0.5)
        (line, *_) = k.told("usage events were dropped")
        assert "max_age_secs" in line["reason"]


class Falling:
    """A session with a Cloud that falls over whatever has `bad` in it."""

    def __init__(self) -> None:
        self.took: list[str] = []
        self.fell = 0

    @property
    def identity(self) -> Identity:
        raise AssertionError

    @property
    def etcd(self) -> EtcdClient:
        raise AssertionError

    async def heartbeat(self, body: bytes) -> None: ...

    async def telemetry(self, body: bytes) -> None:
        if b"bad" in body:
            self.fell += 1
            raise CloudUnavailable("the Cloud answered 500 to POST /dp/telemetry")
        self.took.extend(each["request_id"] for each in json.loads(body)["events"])

    async def budget(self, api_key_id: str) -> bytes:
        return b""

    async def aclose(self) -> None: ...


async def test_a_stream_that_the_cloud_falls_over_keeps_no_other_waiting_and_nothing_of_it_is_skipped(
    etcd: EtcdServer, etcd_prefix: str, tmp_path: Path
) -> None:
    async with kit(etcd, etcd_prefix, tmp_path) as k:
        cloud = Falling()
        k.link.use(cloud)
        await put(k, "a", 0, *events("bad"))
        await put(k, "a", 1, *events("behind"))
        for number in range(100):
            await put(k, "good", number, *events(*names(number, 1)))
        async with running(outbox(k).run(k.lead)):
            await k.time.until(lambda: cloud.took == names(0, 100), step=0.05)
            await k.time.go(300, step=1.0)
            assert cloud.took == names(0, 100)
            assert 5 <= cloud.fell <= 16, "it is tried, ever more rarely"
        assert len(await k.keys()) == 2
