"""The word of the Cloud on the way of a request: how long it is waited for, and what counts without it."""

import asyncio
import timeit
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from aisix_common.logs import get_logger
from aisix_common.managed.budgets import Asked, Decided, Decision, Denial, asked_root, decided_key, shard_of
from aisix_common.store.client import EtcdClient
from aisix_common.store.options import EtcdOptions
from aisix_common.store.types import Changes, KeyValue
from aisix_common.store.watch import list_and_watch
from aisix_common.tasks import TaskOwner
from aisix_proxy.managed.budgets import MOST_WAITING, WAIT_SECONDS, Budgets
from aisix_proxy.managed.decisions import ALLOWED, EXPIRED, RECENT_SECONDS, UNREACHED, Verdict

from tests.support.builders import Clock
from tests.support.etcd import EtcdServer

RUN = "/run/aisix"
looptime = pytest.mark.looptime


class World:
    """Budgets whose clocks are the loop's, or stand still, and rows as the agent writes them."""

    def __init__(self, client: EtcdClient | None = None, run_root: str = RUN, lease: int = 0) -> None:
        self.clock = Clock()
        self.run_root = run_root
        self.time = 0.0
        self.budgets = Budgets(
            client or EtcdClient(EtcdOptions(endpoints=("http://127.0.0.1:9",))),
            run_root,
            "i-1",
            lambda: lease,
            clock=self.clock,
            stale_max_secs=600,
            log=get_logger("test"),
            monotonic=lambda: self.time,
        )

    def row(self, id: str = "key-1", allow: bool = True, age: float = 0, **more: Any) -> KeyValue:
        said = Decision(allow, int(self.clock.now().timestamp() - age), **more)
        key = decided_key(self.run_root, shard_of(id))
        return KeyValue(key, msgspec.json.encode(Decided({id: said})), 1, 1)

    def say(self, id: str = "key-1", allow: bool = True, age: float = 0, **more: Any) -> None:
        self.budgets.take(self.row(id, allow, age, **more))

    async def ask(self, id: str = "key-1") -> tuple[Verdict, float]:
        """What a request is told, and after how many seconds."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        verdict = self.budgets.verdict(id)
        if verdict is None:
            verdict = await self.budgets.wait(id)
        return verdict, round(loop.time() - begun, 3)


@looptime
async def test_a_recent_decision_counts_at_once() -> None:
    world = World()
    world.say(age=RECENT_SECONDS - 1)
    assert await world.ask() == (ALLOWED, 0)
    world.say(allow=False, denial=Denial("no"))
    assert await world.ask() == (Verdict(False, Denial("no")), 0)


@looptime
@pytest.mark.parametrize(
    ("known", "verdict"),
    [
        (None, UNREACHED),
        ({"age": 300}, ALLOWED),
        ({"age": 300, "allow": False, "denial": Denial("no")}, Verdict(False, Denial("no"))),
        ({"age": 700}, EXPIRED),
        ({"age": 700, "fail_mode": "closed"}, EXPIRED),
        ({"age": 700, "fail_mode": "open"}, ALLOWED),
    ],
)
async def test_silence(known: dict[str, Any] | None, verdict: Verdict) -> None:
    """Requests wait once, together, while the key is in use; then what was known counts, or the contract's denial."""
    world = World()
    if known is not None:
        world.say(**known)
    first = asyncio.gather(world.ask(), world.ask())
    await asyncio.sleep(0.1)
    assert await world.ask() == (verdict, 0.15)
    assert list(await first) == [(verdict, WAIT_SECONDS)] * 2
    for _ in range(5):
        await asyncio.sleep(1)
        assert await world.ask() == (verdict, 0)


@looptime
@pytest.mark.parametrize("known", [None, {"age": 300, "allow": False}, {"age": 700, "fail_mode": "closed"}])
async def test_a_new_decision_ends_the_wait_and_one_that_is_late_counts_at_once(known: dict[str, Any] | None) -> None:
    world = World()
    if known is not None:
        world.say(**known)
    asking = asyncio.gather(world.ask(), world.ask(), world.ask("silent"))
    await asyncio.sleep(0.05)
    if known is not None:
        world.say(**known)  # the same again says nothing
    await asyncio.sleep(0.05)
    world.say()
    assert list(await asking) == [(ALLOWED, 0.1), (ALLOWED, 0.1), (UNREACHED, WAIT_SECONDS)]
    assert await world.ask("silent") == (UNREACHED, 0)
    world.say("silent")
    assert await world.ask("silent") == (ALLOWED, 0)


@looptime
async def test_a_decision_that_is_too_old_does_not_end_the_wait() -> None:
    world = World()
    asking = asyncio.gather(world.ask())
    await asyncio.sleep(0.1)
    world.say(age=601, fail_mode="open")
    assert list(await asking) == [(ALLOWED, WAIT_SECONDS)]


@looptime
async def test_who_leaves_while_waiting_takes_nobody_along() -> None:
    world = World()
    async with TaskOwner() as tasks:
        gone, stays = (tasks.spawn(world.ask(), name=name) for name in ("gone", "stays"))
        await asyncio.sleep(0.1)
        gone.cancel()
        world.say()
        assert await stays == (ALLOWED, 0.1)


@looptime
async def test_waiting_is_bounded() -> None:
    world = World()
    async with TaskOwner() as tasks:
        waiting = [tasks.spawn(world.ask(), name="waits") for _ in range(MOST_WAITING)]
        await asyncio.sleep(0.1)
        assert await world.ask() == (UNREACHED, 0)
        assert set(await asyncio.gather(*waiting)) == {(UNREACHED, WAIT_SECONDS)}


async def test_the_hot_path_takes_about_a_microsecond() -> None:
    world = World()
    world.say()
    world.budgets.verdict("key-1")
    best = min(timeit.repeat(lambda: world.budgets.verdict("key-1"), number=2000, repeat=20)) / 2000
    assert best < 10e-6, f"{best * 1e6:.2f} us"


@asynccontextmanager
async def agent(client: EtcdClient, run_root: str, **decisions: Decision) -> AsyncIterator[list[str]]:
    """Publishes what it is asked for and knows, at once. Gives the keys it was asked for, in order."""
    asked: list[str] = []

    async def answer(row: KeyValue) -> None:
        ids = msgspec.json.decode(row.value, type=Asked).keys
        asked.extend(ids)
        known = {id: decisions[id] for id in ids if id in decisions}
        if known:
            shard = shard_of(next(iter(known)))
            await client.put(decided_key(run_root, shard), msgspec.json.encode(Decided(known)))

    async def serve() -> None:
        async for event in list_and_watch(client, asked_root(run_root)):
            if isinstance(event, Changes):
                for row in event.events:
                    if isinstance(row, KeyValue):
                        await answer(row)
            else:
                started.set()

    started = asyncio.Event()
    async with TaskOwner() as tasks:
        tasks.spawn(serve(), name="agent")
        await started.wait()
        yield asked


async def test_from_the_first_request_through_etcd_and_back(etcd: EtcdServer, etcd_prefix: str) -> None:
    async with EtcdClient(EtcdOptions(endpoints=(etcd.endpoint,))) as client, TaskOwner() as tasks:
        world = World(client, etcd_prefix, await client.grant(60))
        now = int(world.clock.now().timestamp())
        denied = Decision(False, now, denial=Denial("no"))
        async with agent(client, etcd_prefix, rich=Decision(True, now), poor=denied) as asked:
            tasks.spawn(world.budgets.run(), name="budgets")
            await world.ask("rich")  # the first may come before the watch stands
            async with asyncio.timeout(10):
                while (await world.ask("rich"))[0] != ALLOWED:
                    await asyncio.sleep(0.01)
            verdict, took = await world.ask("poor")
            assert verdict == Verdict(False, Denial("no"))
            assert took < WAIT_SECONDS
            assert (await world.ask("nobody"))[0] == UNREACHED
            assert asked.count("poor") == 1
            late = Decision(True, now, fail_mode="open")
            await client.put(
                decided_key(etcd_prefix, shard_of("nobody")), msgspec.json.encode(Decided({"nobody": late}))
            )
            async with asyncio.timeout(10):
                while await world.ask("nobody") != (ALLOWED, 0):
                    await asyncio.sleep(0.01)


async def test_a_lost_etcd_takes_no_decision_away(fresh_etcd: EtcdServer) -> None:
    options = EtcdOptions(endpoints=(fresh_etcd.endpoint,), request_timeout=0.5)
    with capture_logs() as lines:
        async with EtcdClient(options) as client, TaskOwner() as tasks:
            world = World(client)
            row = world.row()
            await client.put(row.key, row.value)
            tasks.spawn(world.budgets.run(), name="budgets")
            async with asyncio.timeout(10):
                while (await world.ask())[0] != ALLOWED:
                    await asyncio.sleep(0.01)
            fresh_etcd.kill()
            async with asyncio.timeout(10):
                while not lines:
                    await asyncio.sleep(0.01)
            assert await world.ask() == (ALLOWED, 0)
            await asyncio.to_thread(fresh_etcd.replace)
            async with asyncio.timeout(10):
                while len(lines) < 2:
                    await asyncio.sleep(0.01)
            assert await world.ask() == (ALLOWED, 0), "another, empty etcd does not take it away either"
    assert [line["log_level"] for line in lines] == ["warning", "info"]
