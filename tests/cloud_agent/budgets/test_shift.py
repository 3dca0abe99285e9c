"""Asking the Cloud: how often, how many at once, and what a failure leaves."""

from functools import partial
from pathlib import Path

import msgspec
import pytest

from aisix_cloud_agent.budgets.shift import FIRST_CALLS, MOST_CALLS
from aisix_common.managed.budgets import MOST_KEYS, Asked, asked_key

from .test_budgets import ask, budgets, decided, until_decided
from tests.cloud_agent.delivering import Kit, kit, running
from tests.support.etcd import EtcdServer

PATH = "/dp/budget_check"


def _called(k: Kit, times: int) -> bool:
    return k.calls(PATH) == times


async def test_a_key_in_use_is_asked_for_every_five_seconds_one_that_is_not_is_not(
    etcd: EtcdServer, etcd_prefix: str, tmp_path: Path
) -> None:
    async with kit(etcd, etcd_prefix, tmp_path) as k:
        await ask(k, "a", "b")
        async with running(budgets(k).run(k.lead)):
            await k.time.until(lambda: k.calls(PATH) == 2)
            for checks in range(2, 14):
                await k.time.go(4.9)
                await k.time.until(partial(_called, k, 2 * checks), step=0.01)
            assert 55 <= k.time.passed <= 65
            assert k.dp.budget_asks == {"a": 13, "b": 13}
            await ask(k, "a")
            await k.time.go(12)
            await k.time.until(lambda: k.dp.budget_asks["a"] >= 15, step=0.1)
            assert k.dp.budget_asks["b"] <= 14


@pytest.mark.parametrize(("status", "garbage"), [(500, False), (404, False), (401, False), (0, True)])
async def test_without_an_answer_the_decision_stays_as_old_as_it_is_and_none_is_invented(
    etcd: EtcdServer, etcd_prefix: str, tmp_path: Path, status: int, garbage: bool
) -> None:
    async with kit(etcd, etcd_prefix, tmp_path) as k:
        k.dp.budgets["a"] = {"allow": False, "fail_mode": "closed"}
        await ask(k, "a")
        flow = budgets(k)
        async with running(flow.run(k.lead)):
            await k.time.until(lambda: flow.status.keys_known == 1, step=0.002)
            await k.time.go(1)
            k.dp.troubles.add(PATH, status=status, garbage=garbage)
            await ask(k, "a", "new")
            await k.time.until(lambda: bool(flow.status.trouble), step=0.1)
            await k.time.go(120, step=1.0)
            found = await decided(k)
            assert found.keys() == {"a"}
            assert (found["a"].allow, found["a"].fail_mode) == (False, "closed")
            assert found["a"].at - k.time.now().timestamp() < -110
            k.dp.troubles.clear()
            k.dp.budgets["a"] = {"allow": True}
            await k.time.until(lambda: flow.status.keys_known == 2 and not flow.status.trouble, step=0.5)
            await until_decided(k, "a")
        warned = [line for line in k.lines.entries if line["log_level"] == "warning"]
        assert len(warned) == 1, warned


async def test_a_cloud_that_is_silent_is_not_held_by_every_call_there_is(
    etcd: EtcdServer, etcd_prefix: str, tmp_path: Path
) -> None:
    async with kit(etcd, etcd_prefix, tmp_path) as k:
        k.dp.troubles.add(PATH, status=503)
        await ask(k, *(f"key-{n}" for n in range(100)))
        flow = budgets(k)
        async with running(flow.run(k.lead)):
            await k.time.until(lambda: "503" in flow.status.trouble, step=0.002)
            await k.time.until(lambda: k.calls(PATH) == 100, step=0.002)  # each once: it is new
            k.dp.troubles.clear()
            k.dp.troubles.add(PATH, delay=1000.0)
            await k.time.go(60, step=0.5)
            assert flow.calls <= 1, "one that tries"
            await ask(k, "new-1", "new-2", "new-3", "new-4", "new-5", "new-6")
            await k.time.until(lambda: flow.calls >= FIRST_CALLS, step=0.01)
            await k.time.go(2, step=0.1)
            assert flow.calls <= FIRST_CALLS + 1


async def test_so_many_calls_are_in_flight_at_most(etcd: EtcdServer, etcd_prefix: str, tmp_path: Path) -> None:
    async with kit(etcd, etcd_prefix, tmp_path) as k:
        k.dp.troubles.add(PATH, delay=0.05)
        await ask(k, *(f"key-{n}" for n in range(100)))
        flow, most = budgets(k), 0
        async with running(flow.run(k.lead)):

            def all_known() -> bool:
                nonlocal most
                most = max(most, flow.calls)
                return flow.status.keys_known == 100

            await k.time.until(all_known, step=0.001)
        assert most == MOST_CALLS


async def test_more_keys_than_can_be_asked_for_are_told_of(etcd: EtcdServer, etcd_prefix: str, tmp_path: Path) -> None:
    async with kit(etcd, etcd_prefix, tmp_path) as k:
        k.link.use(None)
        await k.local.put(
            asked_key(k.run_root, 0, "i"), msgspec.json.encode(Asked(tuple(f"k{n}" for n in range(MOST_KEYS))))
        )
        await ask(k, "one", "more", instance="j")
        flow = budgets(k)
        async with running(flow.run(k.lead)):
            await k.time.until(lambda: "2 keys" in flow.status.trouble, step=0.01)
            await ask(k, instance="j")
            await k.time.until(lambda: not flow.status.trouble, step=0.01)
        assert [line["log_level"] for line in k.lines.entries] == ["warning", "info"]
