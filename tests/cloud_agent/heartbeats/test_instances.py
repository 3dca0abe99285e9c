"""Which proxies are there, and what of the Cloud they have applied."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from structlog.testing import capture_logs

from aisix_cloud_agent.heartbeats.instances import MOST_INSTANCES, InstanceRow, Instances, News, Roster
from aisix_common.managed.projected import HERE, Marker, marker_row, projection_key
from aisix_common.model_status import ModelNews
from aisix_common.snapshot import build, empty
from aisix_common.sources.observed import SourceStatus
from aisix_common.store.client import EtcdClient
from aisix_common.store.options import EtcdOptions
from aisix_common.store.types import Alive, Changes, Deleted, KeyValue, Listing, Lost, WatchEvent
from aisix_proxy.telemetry.instance_state import InstanceState, with_configuration

from tests.support.builders import NOON
from tests.support.etcd import EtcdServer

ENV, OTHER = "0b7e7f2e-5c0b-4c3e-9d5b-1f0a2c3d4e5f", "9d2e61b0-44af-4be1-a0f7-88d393aa20f7"


def row(id: str, value: Any = None, /, **fields: Any) -> KeyValue:
    if value is None:
        value = msgspec.json.encode({"instance": id, "service": "proxy"} | fields)
    return KeyValue(f"/run/aisix/instances/{id}", value, 1, 1)


def gone(id: str) -> Deleted:
    return Deleted(f"/run/aisix/instances/{id}", 2)


def news(came: str = "", went: str = "", changed: str = "") -> News:
    return News(frozenset(came), frozenset(went), frozenset(changed))


TOLD: list[tuple[WatchEvent, News]] = [
    (Listing((row("a"), row("b")), 1), news(came="ab")),
    (Alive(1), news()),
    (Lost("gone"), news()),
    (Changes([row("a", applied_revision=7)], 2), news(changed="a")),
    (Changes([row("a", applied_revision=7, something="new")], 3), news()),
    (Changes([row("c", service="admin"), row("d")], 4), news(came="d")),
    (Changes([row("d", b"{"), row("e", b"\xff"), row("f", hostname=7)], 5), news()),
    (Changes([gone("b"), gone("e"), gone("x")], 6), news(went="b")),
    (Changes([row("d", hostname="h"), row("f")], 7), news(came="f", changed="d")),
    (Listing((row("a"), row("f"), row("g")), 8), news(came="g", went="d", changed="a")),
    (Changes([row("g", service="other")], 9), news(went="g")),
    (Listing((), 10), news(went="af")),
]


def test_who_came_went_and_changed() -> None:
    roster, damaged = Roster(), []
    for event, told in TOLD:
        assert roster.take(event) == told, event
        damaged.append("".join(sorted(roster.damaged)))
    assert not roster.live
    assert damaged == ["", "", "", "", "", "", "def", "df", "", "", "", ""]


def test_a_damaged_row_leaves_what_was_known() -> None:
    roster = Roster()
    roster.take(Listing((row("a", hostname="h"),), 1))
    roster.take(Changes([row("a", b'{"service": "proxy", "applied_revision": "x"}')], 2))
    assert roster.live["a"].hostname == "h"


def test_it_is_bounded() -> None:
    roster = Roster()
    roster.take(Listing(tuple(row(f"i{n}") for n in range(MOST_INSTANCES + 5)), 1))
    assert len(roster.live) == MOST_INSTANCES
    assert roster.full
    roster.take(Changes([gone("i0"), row("new")], 2))
    assert "new" in roster.live


def test_it_reads_what_proxies_write() -> None:
    bad = (KeyValue("/aisix/models/m", b"{", 3, 9), KeyValue("/aisix/x", b"{}", 3, 8))
    odd = KeyValue("/aisix/provider_keys/p", b'{"display_name": "p", "secret": "s", "x": 1}', 3, 7)
    base = InstanceState("a", "proxy", "host", "1.0", "2026-11-20T12:00:00Z", 0, connected=True, config_hash="c0ffee")
    state = with_configuration(
        msgspec.structs.replace(base, supported_guardrail_kinds=("pii",)),
        build(Listing((*bad, odd), 10), empty("/aisix"), NOON),
        SourceStatus(),
        ModelNews(),
    )
    read = msgspec.json.decode(msgspec.json.encode(state), type=InstanceRow)
    for name in ("hostname", "version", "started_at", "applied_revision", "config_hash", "supported_guardrail_kinds"):
        assert getattr(read, name) == getattr(state, name)
    for mine, theirs in ((read.rejected, state.rejected), (read.partially_compatible, state.partially_compatible)):
        assert [msgspec.structs.asdict(each) for each in mine] == [msgspec.structs.asdict(each) for each in theirs]
    assert len(read.rejected) == 2


@asynccontextmanager
async def followed(etcd: EtcdServer, root: str) -> AsyncIterator[tuple[EtcdClient, Instances]]:
    async with EtcdClient(EtcdOptions(endpoints=(etcd.endpoint,))) as client:
        instances = Instances(client, root)
        task = asyncio.create_task(instances.run())
        try:
            yield client, instances
        finally:
            task.cancel()
            await asyncio.wait([task])


async def written(client: EtcdClient, root: str, id: str, **fields: Any) -> None:
    await client.put(f"{root}/instances/{id}", msgspec.json.encode({"service": "proxy"} | fields))


async def marked(client: EtcdClient, root: str, cloud: int, rows: int = HERE, env: str = ENV) -> int:
    return await client.put(projection_key(root), marker_row(Marker(env, cloud, "done", rows=rows)))


async def revisions(instances: Instances, expected: dict[str, int]) -> None:
    """Wait until it knows these and says so."""
    found: dict[str, int] = {}
    try:
        async with asyncio.timeout(5):
            while found != expected:
                await asyncio.sleep(0.01)
                found = {id: await instances.cloud_revision(id, ENV) for id in instances.live}
    except TimeoutError:
        raise AssertionError(found)


async def test_they_are_followed_and_the_past_is_asked_for_those_behind(etcd: EtcdServer, etcd_prefix: str) -> None:
    async with EtcdClient(EtcdOptions(endpoints=(etcd.endpoint,))) as client:
        first = await marked(client, etcd_prefix, 41)
        second = await marked(client, etcd_prefix, 42)
        third = await marked(client, etcd_prefix, 43)
        await written(client, etcd_prefix, "old", applied_revision=first)
        await written(client, etcd_prefix, "older", applied_revision=first - 1)
        await written(client, etcd_prefix, "newest", applied_revision=third + 5)
        await written(client, etcd_prefix, "blank")
    async with followed(etcd, etcd_prefix) as (client, instances):
        await revisions(instances, {"old": 41, "older": 0, "newest": 43, "blank": 0})
        assert await instances.cloud_revision("nobody", ENV) == 0
        assert await instances.cloud_revision("newest", OTHER) == 0
        await written(client, etcd_prefix, "old", applied_revision=second)
        await revisions(instances, {"old": 42, "older": 0, "newest": 43, "blank": 0})
        await marked(client, etcd_prefix, 44, rows=third)
        await revisions(instances, {"old": 42, "older": 0, "newest": 44, "blank": 0})


async def test_what_was_compacted_is_not_guessed(fresh_etcd: EtcdServer) -> None:
    async with EtcdClient(EtcdOptions(endpoints=(fresh_etcd.endpoint,))) as client:
        first = await marked(client, "/run/x", 41)
        await written(client, "/run/x", "known", applied_revision=first)
        await marked(client, "/run/x", 42)
        async with followed(fresh_etcd, "/run/x") as (_, instances):
            await revisions(instances, {"known": 41})
            await written(client, "/run/x", "new", applied_revision=first)
            await client.compact(await marked(client, "/run/x", 43))
            await written(client, "/run/x", "known", applied_revision=first + 1)
            await written(client, "/run/x", "last", applied_revision=0)
            while "last" not in instances.live:
                await asyncio.sleep(0.01)
            await revisions(instances, {"known": 41, "new": 0, "last": 0})


async def test_whoever_waits_is_told_and_a_damaged_row_is_told_of_once(etcd: EtcdServer, etcd_prefix: str) -> None:
    async with followed(etcd, etcd_prefix) as (client, instances):
        with capture_logs() as lines:
            for change in (
                written(client, etcd_prefix, "a"),
                client.put(f"{etcd_prefix}/instances/b", b"{"),
                client.put(f"{etcd_prefix}/instances/b", b"["),
                written(client, etcd_prefix, "c"),
            ):
                waiting = asyncio.create_task(instances.moved())
                await asyncio.sleep(0)
                await change
            async with asyncio.timeout(5):
                await waiting
                while len(instances.live) < 2:
                    await instances.moved()
        assert instances.damaged == 1
        assert [(line["log_level"], line["instance"]) for line in lines] == [("warning", "b")]
