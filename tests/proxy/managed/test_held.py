"""Whatever comes in between, what a consumer has is a whole revision of the Cloud."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs

from aisix_cloud_agent.projection.markers import Fence
from aisix_cloud_agent.projection.steps import Step
from aisix_common.logs import get_logger
from aisix_common.managed.projected import NOTHING, Marker, Standing, marker_row, projection_key, standing
from aisix_common.metrics import Metrics
from aisix_common.store.client import EtcdClient
from aisix_common.store.options import EtcdOptions
from aisix_common.store.types import Alive, Changes, Delete, Deleted, KeyValue, Listing, Lost, Put, WatchEvent
from aisix_common.tasks import TaskOwner
from aisix_proxy.managed.held import Kept, held, hold_counter, is_whole

from tests.support.etcd import EtcdServer

ROOT, EXT, RUN = "/aisix", "/ext/aisix", "/run/aisix"
ENV = "11111111-1111-4111-8111-111111111111"
State = dict[str, bytes]


def projection(before: int, target: int, chunks: list[list[Put | Delete]]) -> Iterator[Step]:
    """Transactions as the agent makes them, with chunks of any size."""
    done = Marker(ENV, target, "done")
    if len(chunks) == 1:
        yield Step(done, tuple(chunks[0]))
        return
    applying = Marker(ENV, before, "applying", target)
    yield Step(applying, begins=True)
    for chunk in chunks:
        yield Step(applying, tuple(chunk))
    yield Step(done)


def plan(chance: random.Random, before: State, number: int, root: str) -> list[list[Put | Delete]]:
    """Some rows of a root are written, then some deleted, in chunks."""
    names = [f"{root}/models/{n}" for n in range(12)]
    operations: list[Put | Delete] = [
        Put(name, f"{number}".encode()) for name in chance.sample(names, chance.randint(0, 8))
    ]
    written = {operation.key for operation in operations}
    held_keys = sorted(set(before) - written)
    operations += [Delete(name) for name in chance.sample(held_keys, chance.randint(0, len(held_keys)))]
    operations = operations or [Put(names[0], f"{number}".encode())]
    size = chance.randint(1, len(operations))
    return [operations[at : at + size] for at in range(0, len(operations), size)]


@dataclass
class History:
    """An etcd that was written by the agent: what each local revision changed, and how it stood after it."""

    revision: int = 1
    state: State = field(default_factory=dict)
    row: Standing = NOTHING
    fence: Fence = field(default_factory=lambda: Fence(1, 0))
    events: dict[int, list[KeyValue | Deleted]] = field(default_factory=dict)
    states: dict[int, State] = field(default_factory=lambda: {1: {}})
    rows: dict[int, Standing] = field(default_factory=lambda: {1: NOTHING})
    whole: list[State] = field(default_factory=lambda: [{}])

    def commit(self, step: Step) -> None:
        marker = step.marked(self.fence, ROOT, EXT)
        self.revision += 1
        self.fence = self.fence.after(self.revision, marker)
        self.row = standing(KeyValue("", marker_row(marker), 1, self.revision))
        changes: list[KeyValue | Deleted] = []
        for operation in step.operations:
            if operation.key.startswith(ROOT + "/"):
                if isinstance(operation, Put):
                    changes.append(KeyValue(operation.key, operation.value, 1, self.revision))
                    self.state = {**self.state, operation.key: operation.value}
                elif operation.key in self.state:
                    changes.append(Deleted(operation.key, self.revision))
                    self.state = {key: value for key, value in self.state.items() if key != operation.key}
        self.events[self.revision] = changes
        self.states[self.revision] = self.state
        self.rows[self.revision] = self.row

    def project(self, chance: random.Random, number: int) -> None:
        roots = [ROOT] if chance.random() < 0.8 else [EXT]
        before = self.state if roots == [ROOT] else {}
        for step in projection(number - 1, number, plan(chance, before, number, roots[0])):
            self.commit(step)
        self.whole.append(self.state)


def shown(state: State, event: WatchEvent) -> State:
    """What a consumer has after an event."""
    if isinstance(event, Listing):
        return {row.key: row.value for row in event.rows}
    assert isinstance(event, Changes)
    after = dict(state)
    for change in event.events:
        if isinstance(change, KeyValue):
            after[change.key] = change.value
        else:
            after.pop(change.key, None)
    return after


def listing(history: History, revision: int) -> Listing:
    return Listing(tuple(KeyValue(k, v, 1, 1) for k, v in history.states[revision].items()), revision)


@pytest.mark.parametrize("seed", range(150))
def test_every_interleaving_shows_whole_revisions(seed: int) -> None:
    """Events lag behind etcd by any distance, come in any groups, and lists come in between."""
    chance = random.Random(seed)
    history = History()
    for number in range(1, chance.randint(3, 9)):
        history.project(chance, number)
    kept, state, delivered, now = Kept(), dict[str, bytes](), 1, 1
    while delivered < history.revision:
        now = max(now, chance.randint(delivered, history.revision))  # where etcd is
        if delivered < now and chance.random() < 0.9:
            until = chance.randint(delivered + 1, now)
            changes = [each for at in range(delivered + 1, until + 1) for each in history.events[at]]
            if chance.random() < 0.1:
                kept.take(listing(history, until))
            elif changes:
                kept.take(Changes(changes, changes[-1].mod_revision))
            else:
                kept.reached = max(kept.reached, until)  # as Alive tells
            delivered = until
        now = max(now, chance.choice([now, now, chance.randint(now, history.revision)]))  # the read takes time
        if not kept.empty and is_whole(history.rows[now], kept.reached, external=False):
            reached = kept.reached
            state = shown(state, kept.release())
            assert state in history.whole
            assert state == history.states[reached]
    kept.reached = history.revision
    if not kept.empty:
        assert is_whole(history.row, kept.reached, external=False)
        state = shown(state, kept.release())
    assert state == history.state, "nothing is lost"


def marker(state: str = "done", **more: int) -> Marker:
    return Marker(ENV, 7, "applying" if state == "applying" else "done", **more)


@pytest.mark.parametrize(
    ("row", "reached", "whole"),
    [
        (NOTHING, 10, True),
        (Standing(None, 50), 10, True),
        (Standing(marker("applying", began=40), 50), 60, False),
        (Standing(marker(), 50), 10, True),
        (Standing(marker(rows=50), 50), 49, False),
        (Standing(marker(rows=50), 50), 50, True),
        (Standing(marker(rows=50), 50), 51, True),
        (Standing(marker(rows=-1), 50), 49, False),
        (Standing(marker(began=40, rows=48), 50), 45, False),
        (Standing(marker(began=40, rows=48), 50), 30, False),  # perhaps in the middle of the one before
        (Standing(marker(rows=5000), 50), 10, True),  # copied from another etcd
        (Standing(marker(ext_rows=50), 50), 10, True),
    ],
)
def test_when_rows_are_whole(row: Standing, reached: int, whole: bool) -> None:
    assert is_whole(row, reached, external=False) is whole


def change(key: str, revision: int, value: bytes = b"x") -> KeyValue:
    return KeyValue(key, value, 1, revision)


def test_what_is_kept_becomes_one_event() -> None:
    kept = Kept()
    one = Changes((change("a", 2), change("b", 2)), 2)
    kept.take(one)
    assert kept.release() is one
    assert kept.empty
    kept.take(one)
    kept.take(Changes((change("c", 3), Deleted("a", 3)), 3))
    kept.take(Changes((change("b", 4),), 4))
    assert kept.release() == Changes((change("c", 3), Deleted("a", 3), change("b", 4)), 4)
    kept.take(one)
    kept.take(Listing((change("a", 5), change("z", 5)), 5))
    kept.take(Changes((Deleted("z", 6), change("y", 6), Deleted("nothing", 6)), 6))
    assert kept.release() == Listing((change("a", 5), change("y", 6)), 6)


class Local:
    """A real etcd that the agent writes to, and a consumer behind `held`."""

    def __init__(self, client: EtcdClient, prefix: str) -> None:
        self.client = client
        self.prefix = prefix
        self.metrics = Metrics()
        self.fence = Fence(0, 0)
        self.state: State = {}
        self.seen: list[State] = []
        self.events: list[WatchEvent] = []

    async def commit(self, step: Step) -> None:
        made = step.marked(self.fence, f"{self.prefix}/r", f"{self.prefix}/e")
        _, operations = step.transaction(self.fence, made, self.prefix)
        done = await self.client.txn((), operations)
        self.fence = self.fence.after(done.revision, made)

    @asynccontextmanager
    async def consumer(self, most_seconds: float = 10.0) -> AsyncIterator[None]:
        watch = held(
            self.prefix,
            external=False,
            holds=hold_counter(self.metrics),
            log=get_logger("test"),
            most_seconds=most_seconds,
            look_seconds=0.01,
        )

        async def consume() -> None:
            async with aclosing(generator(watch(self.client, f"{self.prefix}/r/"))) as events:
                async for event in events:
                    self.events.append(event)
                    if isinstance(event, Listing | Changes):
                        self.state = shown(self.state, event)
                        self.seen.append(self.state)

        async with TaskOwner() as tasks:
            tasks.spawn(consume(), name="consumer")
            yield

    async def becomes(self, expected: State) -> None:
        async with asyncio.timeout(10):
            while self.state != expected:
                await asyncio.sleep(0.005)

    def holds(self, result: str) -> float:
        families = {family.name: family for family in self.metrics.collect()}
        found = families["aisix_config_holds_total"].samples
        return sum(sample.value for sample in found if sample.labels == (result,))


def generator(events: AsyncIterator[WatchEvent]) -> AsyncGenerator[WatchEvent, None]:
    assert isinstance(events, AsyncGenerator)
    return events


@pytest.fixture
async def local(etcd: EtcdServer, etcd_prefix: str) -> AsyncIterator[Local]:
    async with EtcdClient(EtcdOptions(endpoints=(etcd.endpoint,))) as client:
        yield Local(client, etcd_prefix)


async def test_over_a_real_etcd(local: Local) -> None:
    chance, state, whole = random.Random(7), dict[str, bytes](), [dict[str, bytes]()]
    async with local.consumer():
        for number in range(1, 40):
            chunks = plan(chance, state, number, f"{local.prefix}/r")
            for step in projection(number - 1, number, chunks):
                await local.commit(step)
                await asyncio.sleep(chance.choice((0, 0, 0.002)))
            for operation in (each for chunk in chunks for each in chunk):
                state = shown(state, Changes((_event(operation),), 0))
            whole.append(state)
        await local.becomes(state)
    assert [each for each in local.seen if each not in whole] == []
    assert local.holds("whole")
    assert not local.holds("gave_up")


def _event(operation: Put | Delete) -> KeyValue | Deleted:
    if isinstance(operation, Put):
        return KeyValue(operation.key, operation.value, 0, 0)
    return Deleted(operation.key, 0)


async def test_a_start_in_the_middle_waits_and_what_is_shown_then_is_one_event(local: Local) -> None:
    rows: State = {f"{local.prefix}/r/models/{n}": b"1" for n in range(6)}
    steps = list(projection(0, 1, [[Put(key, value)] for key, value in rows.items()]))
    for step in steps[:3]:
        await local.commit(step)
    async with local.consumer():
        await asyncio.sleep(0.05)
        for step in steps[3:]:
            await asyncio.sleep(0.005)
            assert local.seen == []
            await local.commit(step)
        await local.becomes(rows)
    assert [type(event) for event in local.events if not isinstance(event, Alive)] == [Listing]
    assert local.holds("whole") == 1


async def test_it_does_not_wait_for_ever_and_says_so_once(local: Local) -> None:
    def key(n: int) -> str:
        return f"{local.prefix}/r/models/{n}"

    steps = list(projection(0, 1, [[Put(key(n), b"1")] for n in range(3)]))
    with capture_logs() as lines:
        async with local.consumer(most_seconds=0.1):
            async with asyncio.timeout(10):
                while not local.seen:
                    await asyncio.sleep(0.005)
            for step in steps[:2]:
                await local.commit(step)
            await local.becomes({key(0): b"1"})
            await local.commit(steps[2])
            await local.becomes({key(0): b"1", key(1): b"1"})
            for step in steps[3:]:
                await local.commit(step)
            await local.becomes({key(n): b"1" for n in range(3)})
            async with asyncio.timeout(10):
                while len(lines) < 2:
                    await asyncio.sleep(0.005)
    assert [line["log_level"] for line in lines] == ["error", "info"]
    assert local.holds("gave_up") >= 2


async def test_a_gateway_that_was_never_projected_to_waits_for_nothing(local: Local) -> None:
    async with local.consumer():
        await local.client.put(f"{local.prefix}/r/models/1", b"1")
        await local.becomes({f"{local.prefix}/r/models/1": b"1"})
        await local.client.put(projection_key(local.prefix), b"damaged")
        await local.client.put(f"{local.prefix}/r/models/1", b"2")
        await local.becomes({f"{local.prefix}/r/models/1": b"2"})
    assert not local.holds("whole")


async def test_trouble_passes_and_what_cannot_be_judged_is_kept(fresh_etcd: EtcdServer) -> None:
    options = EtcdOptions(endpoints=(fresh_etcd.endpoint,), request_timeout=0.3)
    async with EtcdClient(options) as client:
        local = Local(client, "/t")
        async with local.consumer():
            await client.put("/t/r/models/1", b"1")
            await local.becomes({"/t/r/models/1": b"1"})
            fresh_etcd.kill()
            async with asyncio.timeout(10):
                while not any(isinstance(event, Lost) for event in local.events):
                    await asyncio.sleep(0.005)
            await asyncio.to_thread(fresh_etcd.start)
            await client.put("/t/r/models/1", b"2")
            await local.becomes({"/t/r/models/1": b"2"})


async def test_it_ends_with_its_watch_and_closes_it(local: Local) -> None:
    closed = []

    async def script(client: EtcdClient, prefix: str) -> AsyncGenerator[WatchEvent, None]:
        try:
            yield Listing((), 1)
            yield Alive(1)
            yield Lost("gone")
            if prefix == "/ends/":
                return
            await asyncio.Event().wait()
        finally:
            closed.append(prefix)

    watch = held(local.prefix, external=True, holds=hold_counter(Metrics()), log=get_logger("test"), watch=script)
    seen = [event async for event in watch(local.client, "/ends/")]
    assert seen == [Listing((), 1), Alive(1), Lost("gone")]
    async with aclosing(generator(watch(local.client, "/stays/"))) as events:
        assert await anext(events) == Listing((), 1)
    assert closed == ["/ends/", "/stays/"]
