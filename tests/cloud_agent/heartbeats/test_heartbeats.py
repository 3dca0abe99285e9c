"""Heartbeats: their rhythm on a clock of the test, and their arrival at a Cloud."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from aisix_cloud_agent.cloud.link import CloudError, CloudRefused, CloudUnavailable, Link
from aisix_cloud_agent.cloud.session import CloudSession, open_session
from aisix_cloud_agent.heartbeats.heartbeats import IN_FLIGHT, HeartbeatMetrics, Heartbeats
from aisix_cloud_agent.heartbeats.instances import InstanceRow, Instances
from aisix_cloud_agent.identity.bundle import Bundle
from aisix_cloud_agent.identity.identity import Identity, identify
from aisix_cloud_agent.lead.lead import Lead, LeadLost
from aisix_common.clock import SYSTEM_CLOCK
from aisix_common.managed.projected import HERE, Marker, marker_row, projection_key
from aisix_common.metrics import Metrics
from aisix_common.secret import Secret
from aisix_common.settings.control import Managed
from aisix_common.store.client import EtcdClient
from aisix_common.store.options import EtcdOptions

from tests.support.cloud import Cloud, cloud
from tests.support.etcd import EtcdServer

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
IDENTITY = Identity("0b7e7f2e-5c0b-4c3e-9d5b-1f0a2c3d4e5f", "dp-7", NOW, NOW + timedelta(days=1), "1", "")
INTERVAL = 15.0


class FixedClock:
    def now(self) -> datetime:
        return NOW


class Crowd:
    """Instances that are there because the test says so."""

    def __init__(self, *ids: str) -> None:
        self.live: Mapping[str, InstanceRow] = {id: InstanceRow(service="proxy") for id in ids}
        self._moved = asyncio.Event()

    def set(self, *ids: str) -> None:
        self.live = {id: InstanceRow(service="proxy") for id in ids}
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def moved(self) -> None:
        await self._moved.wait()

    async def cloud_revision(self, id: str, env_id: str) -> int:
        return 42


@dataclass
class Seen:
    """A session that takes `takes` seconds for a beat, and raises `fails`."""

    takes: float = 0.0
    fails: CloudError | None = None
    identity: Identity = IDENTITY
    beats: list[tuple[float, str]] = field(default_factory=list)
    """When each began, and of which instance."""
    ended: int = 0
    most: int = 0

    @property
    def etcd(self) -> EtcdClient:
        raise AssertionError

    async def heartbeat(self, body: bytes) -> None:
        self.beats.append((round(asyncio.get_running_loop().time(), 3), msgspec.json.decode(body)["instance_id"]))
        self.most = max(self.most, len(self.beats) - self.ended)
        try:
            await asyncio.sleep(self.takes)
        finally:
            self.ended += 1
        if self.fails is not None:
            raise self.fails

    async def telemetry(self, body: bytes) -> None:
        raise AssertionError

    async def budget(self, api_key_id: str) -> bytes:
        raise AssertionError

    async def aclose(self) -> None: ...

    def times(self, id: str) -> list[float]:
        return [at for at, of in self.beats if of == id]


class Bench:
    """Heartbeats with a lead that can be taken away."""

    def __init__(self, crowd: Crowd, session: Seen | None, interval: float = INTERVAL) -> None:
        self.crowd, self.link, self.metrics = crowd, Link(), Metrics()
        self.link.use(session)
        self.held = True
        self.lead = Lead(1, lambda: self.held)
        self.heartbeats = Heartbeats(self.link, crowd, interval, HeartbeatMetrics(self.metrics), FixedClock())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(self.heartbeats.run(self.lead))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])


def counted(metrics: Metrics) -> dict[str, float]:
    (family,) = [each for each in metrics.collect() if each.name == "aisix_cloud_heartbeats_total"]
    return {sample.labels[0]: sample.value for sample in family.samples}


@contextmanager
def lines() -> Iterator[list[tuple[str, str]]]:
    """Level and text of what is logged."""
    found: list[tuple[str, str]] = []
    with capture_logs() as logged:
        yield found
    found += [(line["log_level"], line["event"]) for line in logged]


@pytest.mark.looptime
async def test_at_once_then_every_interval_for_each() -> None:
    session = Seen()
    bench = Bench(Crowd("a"), session)
    async with bench.running():
        await asyncio.sleep(20)
        bench.crowd.set("a", "b")
        await asyncio.sleep(20)
        bench.crowd.set("b")
        await asyncio.sleep(20)
        assert session.times("a") == [0, 15, 30]
        assert session.times("b") == [20, 35, 50]
        assert bench.heartbeats.status() == [
            {"instance": "b", "sent": 3, "last_success_at": "2026-11-27T12:00:00Z", "last_error": None}
        ]
    assert bench.heartbeats.status() == []
    assert counted(bench.metrics) == {"ok": 6, "refused": 0, "unavailable": 0}
    assert bench.link.worked.is_set()


@pytest.mark.looptime
async def test_late_ones_come_late_and_not_in_a_burst() -> None:
    session = Seen(takes=12.0)
    bench = Bench(Crowd("a"), session, interval=5.0)
    async with bench.running():
        await asyncio.sleep(26)
        session.takes = 0.0
        await asyncio.sleep(22)
    assert session.times("a") == [0, 12, 24, 36, 41, 46]


@pytest.mark.looptime
async def test_one_that_is_never_answered_is_given_up() -> None:
    session = Seen(takes=1e6)
    bench = Bench(Crowd("a"), session)
    async with bench.running():
        await asyncio.sleep(40)
        assert bench.heartbeats.status()[0]["last_error"] == "the Cloud did not answer within 15 s"
    assert session.times("a") == [0, 15, 30]
    assert counted(bench.metrics)["unavailable"] == 2


@pytest.mark.looptime
async def test_eight_are_in_flight_at_most() -> None:
    session = Seen(takes=2.0)
    bench = Bench(Crowd(*(f"i{n:02}" for n in range(20))), session)
    async with bench.running():
        await asyncio.sleep(10)
    assert session.most == IN_FLIGHT
    assert Counter(at for at, _ in session.beats) == {0: 8, 2: 8, 4: 4}


@pytest.mark.looptime
async def test_none_without_the_lead() -> None:
    session = Seen()
    bench = Bench(Crowd("a", "b"), session)
    async with bench.running() as task:
        await asyncio.sleep(16)
        bench.held = False
        bench.crowd.set("a", "b", "c")
        with pytest.raises(LeadLost):
            await task
    assert len(session.beats) == 4


@pytest.mark.looptime
async def test_the_lead_is_asked_before_each() -> None:
    session = Seen(takes=1.0)
    bench = Bench(Crowd(*(f"i{n:02}" for n in range(20))), session)
    async with bench.running():
        await asyncio.sleep(0.5)
        bench.held = False
        await asyncio.sleep(10)
    assert len(session.beats) == IN_FLIGHT


@pytest.mark.looptime
async def test_without_a_certificate_they_wait_for_one() -> None:
    session = Seen()
    bench = Bench(Crowd("a"), None)
    with lines() as logged:
        async with bench.running():
            await asyncio.sleep(100)
            bench.link.use(session)
            await asyncio.sleep(20)
    assert session.times("a") == [100, 115]
    assert logged == []


@pytest.mark.looptime
async def test_another_certificate_neither_loses_nor_doubles_one() -> None:
    first, second = Seen(takes=1.0), Seen(takes=1.0)
    bench = Bench(Crowd("a", "b"), first)
    async with bench.running():
        await asyncio.sleep(15.5)  # both are on their way
        bench.link.use(second)
        await asyncio.sleep(1)
        assert not bench.link.worked.is_set(), "what went well on the old one says nothing of the new one"
        await asyncio.sleep(30)
        assert bench.link.worked.is_set()
    assert [sorted(each.times(id)) for each in (first, second) for id in "ab"] == [[0, 15], [0, 15], [30, 45], [30, 45]]
    assert counted(bench.metrics)["ok"] == 8


FAILURES: list[tuple[CloudError, str]] = [
    (CloudUnavailable("no answer"), "unavailable"),
    (CloudRefused("the Cloud answered 422", status=422), "refused"),
]


@pytest.mark.looptime
@pytest.mark.parametrize(("error", "result"), FAILURES)
async def test_trouble_is_told_once_and_so_is_its_end(error: CloudError, result: str) -> None:
    session = Seen(fails=error)
    bench = Bench(Crowd("a", "b"), session)
    with lines() as logged:
        async with bench.running():
            await asyncio.sleep(40)
            assert {each["last_error"] for each in bench.heartbeats.status()} == {str(error)}
            assert not bench.link.worked.is_set()
            session.fails = None
            await asyncio.sleep(10)
            assert {each["last_error"] for each in bench.heartbeats.status()} == {None}
    assert [level for level, _ in logged] == ["warning", "info"]
    assert session.times("a") == [0, 15, 30, 45], "none is repeated"
    assert counted(bench.metrics) == {"ok": 2, "refused": 0, "unavailable": 0} | {result: 6}


@pytest.mark.looptime
async def test_a_mistake_in_a_beat_ends_neither_it_nor_the_others() -> None:
    class Broken(Seen):
        async def heartbeat(self, body: bytes) -> None:
            await super().heartbeat(body)
            if b'"bad"' in body:
                raise KeyError("a mistake")

    session = Broken()
    bench = Bench(Crowd("bad", "good"), session)
    with lines():
        async with bench.running():
            await asyncio.sleep(40)
    assert session.times("good") == [0, 15, 30]
    assert session.times("bad") == [0, 15, 30]


@asynccontextmanager
async def session(c: Cloud, env_id: str) -> AsyncIterator[CloudSession]:
    issued = c.issue(env_id, dp_id="dp-7")
    bundle = Bundle(issued.certificate, Secret(issued.key), issued.ca)
    identity = identify(bundle.certificate, bundle.key, bundle.ca, SYSTEM_CLOCK.now())
    opened = open_session(Managed(enabled=True, cp_base_url=c.url), bundle, identity)
    try:
        yield opened
    finally:
        await opened.aclose()


async def test_they_arrive(tmp_path: Path, etcd: EtcdServer, etcd_prefix: str) -> None:
    async with cloud(tmp_path / "cloud") as c, EtcdClient(EtcdOptions(endpoints=(etcd.endpoint,))) as client:

        async def write(id: str, **fields: Any) -> None:
            row = {"instance": id, "service": "proxy", "hostname": "h", "version": "0.1.0"} | fields
            await client.put(f"{etcd_prefix}/instances/{id}", msgspec.json.encode(row))

        async def until(condition: Any) -> None:
            async with asyncio.timeout(10):
                while not condition():
                    await asyncio.sleep(0.01)

        def of(id: str) -> list[Mapping[str, Any]]:
            return [each.document for each in c.heartbeats if each.document["instance_id"] == id]

        marker = Marker(c.a, 42, "done", rows=HERE)
        local = await client.put(projection_key(etcd_prefix), marker_row(marker))
        await write("a", applied_revision=local, config_hash="c0ffee")
        await write("b", rejected=[{"kind": "models", "id": "m", "reason": "r", "failure": "schema_failed", "at": 5}])
        link, instances, metrics = Link(), Instances(client, etcd_prefix), Metrics()
        heartbeats = Heartbeats(link, instances, 0.1, HeartbeatMetrics(metrics))
        async with session(c, c.a) as first, session(c, c.a) as second, asyncio.TaskGroup() as group:
            link.use(first)
            tasks = [group.create_task(instances.run()), group.create_task(heartbeats.run(Lead(1, lambda: True)))]
            await until(lambda: len(of("a")) >= 2 and len(of("b")) >= 2)
            assert of("a")[0]["applied_revision"] == 42
            assert of("a")[0]["config_hash"] == "c0ffee"
            assert of("b")[0]["applied_revision"] == 0
            assert of("b")[0]["rejected_resources"][0]["key"] == f"/aisix/{c.a}/models/m"
            assert {each.user_agent.split("/")[0] for each in c.heartbeats} == {"aisix-dp"}

            link.use(second)
            await until(lambda: link.worked.is_set())
            serials = [each.sender.serial for each in c.heartbeats]
            assert serials == sorted(serials, key=serials.index), "none went out on the old one afterwards"
            await client.delete(f"{etcd_prefix}/instances/b")
            await until(lambda: "b" not in instances.live)

            with lines() as logged:
                c.troubles.add("/dp/heartbeat", status=503, times=3)
                await until(lambda: counted(metrics)["unavailable"] == 3)
                await until(lambda: heartbeats.status()[0]["last_error"] is None)
            assert [level for level, _ in logged] == ["warning", "info"]
            for task in tasks:
                task.cancel()
        assert counted(metrics)["ok"] == len(c.heartbeats)
