"""Budgets from end to end: a key that proxies ask for, the Cloud's answer, and the row that the proxies read."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from aisix_cloud_agent.budgets.budgets import Budgets, about_key
from aisix_cloud_agent.flow.waiting import LOOP_TIME
from aisix_cloud_agent.lead.lead import LeadLost
from aisix_common.clock import SYSTEM_CLOCK
from aisix_common.managed.budgets import (
    REFRESH_SECONDS,
    SHARDS,
    Asked,
    Decided,
    Decision,
    asked_key,
    decided_key,
    decided_root,
    shard_of,
)
from aisix_common.store.types import Delete, Put

from tests.cloud_agent.delivering import Kit, kit, running
from tests.support.etcd import EtcdServer

PATH = "/dp/budget_check"


def budgets(k: Kit) -> Budgets:
    return Budgets(
        k.local, k.link, k.run_root, clock=k.time, chance=k.chance, log=k.log, metrics=k.metrics, time=k.time
    )


async def ask(k: Kit, *keys: str, instance: str = "i-1") -> None:
    """An instance uses these keys now, and none else."""
    shards: dict[int, list[str]] = {}
    for key in keys:
        shards.setdefault(shard_of(key), []).append(key)
    operations: list[Put | Delete] = []
    for shard in range(SHARDS):
        row, named = asked_key(k.run_root, shard, instance), shards.get(shard)
        operations.append(Put(row, msgspec.json.encode(Asked(tuple(named)))) if named else Delete(row))
    await k.local.txn((), operations)


async def decided(k: Kit) -> dict[str, Decision]:
    """What the proxies read."""
    found: dict[str, Decision] = {}
    for row in (await k.local.range(decided_root(k.run_root))).rows:
        found |= msgspec.json.decode(row.value, type=Decided).keys
    return found


async def writes(k: Kit, key: str) -> int:
    """How often the row of a key was written."""
    row = await k.local.get(decided_key(k.run_root, shard_of(key)))
    return row.version if row is not None else 0


async def until_decided(k: Kit, key: str, *, allow: bool = True) -> None:
    async with asyncio.timeout(20):
        while (found := (await decided(k)).get(key)) is None or found.allow is not allow:
            k.time.advance(0.01)
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("status", "about"), [(400, True), (404, True), (422, True), (401, False), (403, False), (302, False), (501, False)]
)
def test_only_some_refusals_are_about_a_key(status: int, about: bool) -> None:
    assert about_key(status) is about


async def test_a_new_key_has_its_decision_at_once(etcd: EtcdServer, etcd_prefix: str, tmp_path: Path) -> None:
    """With real time: 250 ms are what a proxy waits, when the Cloud takes 100 of them."""
    async with kit(etcd, etcd_prefix, tmp_path) as k:
        k.dp.troubles.add(PATH, delay=0.1)
        flow = Budgets(k.local, k.link, k.run_root, clock=SYSTEM_CLOCK, chance=k.chance, log=k.log, metrics=k.metrics)
        taken = []
        async with running(flow.run(k.lead)):
            for n in range(5):
                key, began = f"key-{n}", LOOP_TIME.monotonic()
                await k.local.put(asked_key(k.run_root, shard_of(key), "i"), msgspec.json.encode(Asked((key,))))
                row = decided_key(k.run_root, shard_of(key))
                async with asyncio.timeout(20):
                    while (found := await k.local.get(row)) is None or key.encode() not in found.value:
                        await asyncio.sleep(0.002)
                taken.append(LOOP_TIME.monotonic() - began)
        assert min(taken) < 0.25, taken


async def test_a_flip_is_published_at_once_numbers_within_a_second_and_the_rest_now_and_then(
    etcd: EtcdServer, etcd_prefix: str, tmp_path: Path
) -> None:
    async with kit(etcd, etcd_prefix, tmp_path) as k:
        k.dp.budgets["a"] = {"allow": True, "budget": {"limit_usd": "10", "spent_usd": 1}}
        await ask(k, "a")
        async with running(budgets(k).run(k.lead)):
            await until_decided(k, "a")
            first = (await decided(k))["a"]
            await k.time.go(REFRESH_SECONDS - 3, step=0.2)
            assert await writes(k, "a") == 1, "it stays the same"
            await k.time.go(10, step=0.2)
            assert await writes(k, "a") == 2
            assert (await decided(k))["a"].at >= first.at + REFRESH_SECONDS - 6
            k.dp.budgets["a"] = {"allow": True, "budget": {"limit_usd": "10", "spent_usd": 2}}
            await k.time.go(6.5, step=0.2)
            budget = (await decided(k))["a"].budget
            assert (budget and budget.spent_usd, await writes(k, "a")) == (2, 3)
            k.dp.budgets["a"] = {"allow": False, "reason": {"message": "spent", "limit_usd": 10, "spent_usd": 12}}
            checks = k.calls(PATH)
            await k.time.until(lambda: k.calls(PATH) > checks, step=0.05)
            began = k.time.passed
            await until_decided(k, "a", allow=False)
            assert k.time.passed - began < 0.5
            denial = (await decided(k))["a"].denial
            assert denial
            assert (denial.message, denial.limit_usd, denial.spent_usd) == ("spent", "10.00", "12.00")


async def test_what_a_former_leader_wrote_stays_and_is_asked_for_when_it_is_used(
    etcd: EtcdServer, etcd_prefix: str, tmp_path: Path
) -> None:
    async with kit(etcd, etcd_prefix, tmp_path) as k:
        await ask(k, "a", "b")
        async with running(budgets(k).run(k.lead)):
            await until_decided(k, "a")
            await until_decided(k, "b")
        k.dp.budgets["a"] = {"allow": False}
        await ask(k, "a")
        k.metrics = type(k.metrics)()
        async with running(budgets(k).run(k.lead)):
            await until_decided(k, "a", allow=False)
            assert k.dp.budget_asks == {"a": 2, "b": 1}
            assert (await decided(k))["b"].allow is True


async def test_whoever_does_not_lead_any_more_stops(etcd: EtcdServer, etcd_prefix: str, tmp_path: Path) -> None:
    async with kit(etcd, etcd_prefix, tmp_path) as k:
        await ask(k, "a")
        flow = budgets(k)
        async with running(flow.run(k.lead)) as task:
            await until_decided(k, "a")
            await k.another_leads()
            k.dp.budgets["a"] = {"allow": False}
            await k.time.until(task.done, step=0.1)
            with pytest.raises(LeadLost):
                task.result()
        assert (await decided(k))["a"].allow is True
        assert flow.status.keys_in_use == 0
        k.held = False
        with pytest.raises(LeadLost):
            await asyncio.wait_for(flow.run(k.lead), 20)


async def test_numbers_and_status_tell_how_it_goes(etcd: EtcdServer, etcd_prefix: str, tmp_path: Path) -> None:
    async with kit(etcd, etcd_prefix, tmp_path) as k:
        k.dp.budgets |= {"denied": {"allow": False}, "odd": {"allow": "maybe"}}
        await ask(k, "denied", "odd", "fine")
        await ask(k, "fine", instance="i-2")
        flow = budgets(k)
        async with running(flow.run(k.lead)):
            await k.time.until(lambda: k.calls(PATH) == 3 and flow.calls == 0)
            status = flow.status
            assert (status.keys_in_use, status.keys_known, status.keys_failing) == (3, 2, 1)
            assert "'odd'" in status.trouble
            assert status.last_success is not None
            numbers = k.numbers()
            results = ("allowed", "denied", "unreadable", "refused", "unavailable")
            assert [numbers[f"aisix_cloud_budget_checks_total{{{result}}}"] for result in results] == [1, 1, 1, 0, 0]
            assert numbers["aisix_cloud_budget_keys_in_use{}"] == 3
            assert numbers["aisix_cloud_budget_last_success_timestamp_seconds{}"] > 0
            k.dp.budgets["odd"] = {"allow": True}
            await k.time.until(lambda: not flow.status.trouble, step=0.1)
        assert k.numbers()["aisix_cloud_budget_keys_in_use{}"] == 0
        assert [line["event"] for line in k.lines.entries] == [
            "the Cloud does not tell whether a caller key may spend",
            "the Cloud tells of all caller keys again",
        ]
