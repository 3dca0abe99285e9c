"""The Cloud of the tests does what tests rely on: seen by our own etcd client and by aiohttp, through its one port."""

import asyncio
import contextlib
import datetime as dt
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from aisix_common.errors import StoreDenied, StoreError
from aisix_common.resources import EXTERNAL_KINDS
from aisix_common.store.client import EtcdClient, EtcdOptions
from aisix_common.store.types import Alive, Changes, Deleted, Listing, Lost
from aisix_common.store.watch import WatchTuning, list_and_watch

from tests.support.authority import Authority
from tests.support.cloud import Bundle, Cloud, Lane, cloud

DAY = dt.timedelta(days=1)
QUICK = WatchTuning(probe_interval=0.2, answer_timeout=1.0, first_delay=0.02, longest_delay=0.1)
BEAT = {
    "instance_id": "6f1e7f6c-8a51-4f0e-9a53-2b6c1a1d8f11",
    "hostname": "pod-1",
    "uptime_seconds": 3,
    "version": "0.1.0",
    "supported_guardrail_kinds": ["keyword"],
    "applied_revision": 0,
    "exporter_health": [],
}


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Cloud]:
    async with cloud(tmp_path / "cloud") as started:
        yield started


def client(running: Cloud, bundle: Bundle) -> EtcdClient:
    """Our etcd client with a gateway's certificate, through the front."""
    return EtcdClient(EtcdOptions(endpoints=(running.endpoint,), tls=bundle.material(), request_timeout=20.0))


async def fails(ours: EtcdClient, prefix: str) -> None:
    """A read brings nothing for as long as one has patience: what works is never cut off, on no slow machine."""
    with pytest.raises((StoreError, TimeoutError)):
        async with asyncio.timeout(0.3):
            await ours.range(prefix)


@asynccontextmanager
async def http(running: Cloud, folder: Path, bundle: Bundle | None) -> AsyncIterator[aiohttp.ClientSession]:
    """A session with a gateway's certificate, or with none, for the `/dp` calls."""
    tls = ssl.create_default_context(cadata=running.issuer.ca) if bundle is None else bundle.tls(folder)
    connector = aiohttp.TCPConnector(ssl=tls)
    async with aiohttp.ClientSession(running.url, connector=connector, timeout=aiohttp.ClientTimeout(20)) as session:
        yield session


def event(request_id: str, index: int = 0, **more: Any) -> dict[str, Any]:
    """A usage event with what is always there."""
    texts = {"request_id": request_id, "occurred_at": "2026-08-01T00:00:00Z", "model_id": "m", "api_key_id": ""}
    numbers = {"prompt_tokens": 1, "completion_tokens": 2, "upstream_latency_ms": 3, "status_code": 200}
    return {**texts, **numbers, "cost_usd": 0.5, "guardrail_blocked": False, "attempt_index": index, **more}


async def test_an_environment_reads_and_watches_its_own_rows_and_no_others(running: Cloud) -> None:
    c = running
    root, external = f"/aisix/{c.a}/", EXTERNAL_KINDS[0].name
    await c.put(c.a, "models", "m-1", {"a": 1})
    await c.put(c.a, external, "e-1", {})
    written = await c.put(c.b, "models", "m-1", {"b": 1})
    async with client(c, c.issue(c.a)) as ours:
        found = await ours.range(root)
        assert [row.key for row in found.rows] == [f"{root}models/m-1"]
        assert found.revision == written == await c.revision()
        assert [row.key for row in (await ours.range(f"/ext{root}")).rows] == [f"/ext{root}{external}/e-1"]
        for other in (f"/aisix/{c.b}/", f"/ext/aisix/{c.b}/", "/aisix/", "/aisix", "/", f"/run/aisix/{c.a}/"):
            with pytest.raises(StoreDenied, match="permission denied"):
                await ours.range(other)
        for write in (ours.put(f"{root}models/m-1", b"{}"), ours.delete(f"{root}models/m-1")):
            with pytest.raises(StoreDenied, match="permission denied"):
                await write
        async with contextlib.aclosing(list_and_watch(ours, root, QUICK)) as events:
            first = await anext(events)
            assert isinstance(first, Listing)
            assert len(first.rows) == 1
            await c.put(c.b, "models", "m-2", {})
            await c.delete(c.a, "models", "m-1")
            change = await anext(events)
            while isinstance(change, Alive):
                change = await anext(events)
            assert isinstance(change, Changes)
            assert [each.key for each in change.events if isinstance(each, Deleted)] == [f"{root}models/m-1"]
        async with contextlib.aclosing(list_and_watch(ours, f"/aisix/{c.b}/", QUICK)) as events:
            lost = await anext(events)
            assert isinstance(lost, Lost)
            assert "permission denied" in lost.reason
    assert c.front.accepted == {Lane.ETCD: 1, Lane.APP: 0}


async def test_a_certificate_that_was_revoked_or_is_none_opens_nothing(running: Cloud, tmp_path: Path) -> None:
    c = running
    good, kept = c.issue(c.a), c.issue(c.a)
    async with client(c, good) as ours, http(c, tmp_path / "good", good) as session:
        await ours.range(f"/aisix/{c.a}/")
        async with session.get("/dp/budget_check?api_key_id=k") as answer:
            assert answer.status == 200
        await c.revoke(good.identity.serial)
        await fails(ours, f"/aisix/{c.a}/")
        async with session.get("/dp/budget_check?api_key_id=k") as answer:
            assert answer.status == 401
    async with client(c, kept) as ours:
        await ours.range(f"/aisix/{c.a}/")

    stranger = Authority("AISIX Cloud CA of the tests").leaf()
    foreign = Bundle(stranger.certificate, stranger.key, c.issuer.ca, good.identity)
    for name, bad in (("expired", c.issue(c.a, lifetime=-DAY)), ("foreign", foreign)):
        async with client(c, bad) as ours, http(c, tmp_path / name, bad) as session:
            await fails(ours, f"/aisix/{c.a}/")
            with pytest.raises(aiohttp.ClientError):
                await session.get("/dp/budget_check?api_key_id=k")
    assert good.expires > dt.datetime.now(dt.UTC) + DAY / 2


async def test_heartbeats_come_through_the_same_port(running: Cloud, tmp_path: Path) -> None:
    c = running
    bundle = c.issue(c.b)
    beat = {**BEAT, "dp_id": bundle.identity.dp_id}
    cases: list[tuple[Bundle | None, dict[str, Any], int]] = [
        (bundle, beat, 200),
        (bundle, {**beat, "dp_id": "another"}, 403),
        (bundle, {**beat, "applied_revision": "3"}, 422),
        (bundle, {name: value for name, value in beat.items() if name != "hostname"}, 422),
        (None, beat, 401),
        (c.issue(c.b, uris=[f"x-aisix://env/{c.b}"]), beat, 401),
        (c.issue(c.b, uris=["x-aisix://env/nowhere", "x-aisix://dp/x"]), beat, 403),
    ]
    for number, (shown, document, expected) in enumerate(cases):
        async with http(c, tmp_path / str(number), shown) as session:
            async with session.post("/dp/heartbeat", json=document, headers={"User-Agent": "aisix-dp/1"}) as answer:
                assert (answer.status, answer.version) == (expected, aiohttp.HttpVersion11), number
    assert [(beat.sender, beat.document, beat.user_agent) for beat in c.heartbeats] == [
        (bundle.identity, beat, "aisix-dp/1")
    ]
    assert c.front.accepted == {Lane.ETCD: 0, Lane.APP: len(cases)}


async def test_an_event_counts_once_and_budgets_are_what_was_said(running: Cloud, tmp_path: Path) -> None:
    c = running
    denied = {"allow": False, "fail_mode": "closed", "reason": {"message": "spent"}}
    c.budgets["poor"] = denied
    async with http(c, tmp_path / "bundle", c.issue(c.a)) as session:

        async def send(*events: dict[str, Any], compress: str | None = None) -> int:
            async with session.post("/dp/telemetry", json={"events": events}, compress=compress) as answer:
                return answer.status

        assert await send(event("x"), event("x", 1), event("y")) == 200
        assert await send(event("x"), event("z"), compress="gzip") == 200
        assert await send(event("y", status_code=500)) == 200
        assert list(c.events) == [("x", 0), ("x", 1), ("y", 0), ("z", 0)]
        assert (c.ledger.duplicates, c.ledger.conflicts, c.ledger.batches) == (2, 1, [3, 2, 1])
        assert await send(*(event(str(number)) for number in range(101))) == 413
        assert await send(event("v"), {**event("w"), "prompt_tokens": None}) == 422
        c.troubles.add("/dp/telemetry", lost=True, times=1)
        with pytest.raises(aiohttp.ClientError):
            await send(event("u"))
        assert list(c.events)[4:] == [("u", 0)]
        for key, expected in (("poor", denied), ("rich", {"allow": True, "fail_mode": "sticky"})):
            async with session.get("/dp/budget_check", params={"api_key_id": key}) as answer:
                assert await answer.json() == expected
    assert c.dp.budget_asks == {"poor": 1, "rich": 1}
    assert c.dp.calls["/dp/telemetry", 200] == 3
    assert c.dp.calls["/dp/telemetry", 0] == 1


async def test_troubles_of_chosen_paths(running: Cloud, tmp_path: Path) -> None:
    c = running
    async with http(c, tmp_path / "bundle", c.issue(c.a)) as session:

        async def ask() -> tuple[int, bytes]:
            async with session.get("/dp/budget_check?api_key_id=k") as answer:
                return answer.status, await answer.read()

        c.troubles.add("/dp/telemetry", status=500)
        assert (await ask())[0] == 200
        c.troubles.add("/dp/budget", status=503, times=2)
        assert [(await ask())[0] for _ in range(3)] == [503, 503, 200]
        c.troubles.add("/dp/", garbage=True)
        status, body = await ask()
        assert status == 200
        with pytest.raises(UnicodeDecodeError):
            body.decode()
        c.troubles.clear()
        c.troubles.add("/dp/", delay=0.1, times=1)
        started = asyncio.get_running_loop().time()
        assert (await ask())[0] == 200
        assert asyncio.get_running_loop().time() - started >= 0.1


FAULTS: list[tuple[str, Callable[[Cloud], Any]]] = [
    ("refused", lambda c: c.front.refuse()),
    ("silent", lambda c: c.front.silence()),
    ("reset", lambda c: c.front.reset()),
    ("garbled", lambda c: c.front.garble()),
    ("slow", lambda c: c.front.slow(5.0)),
]


async def test_the_port_fails_in_every_way_and_heals(running: Cloud, tmp_path: Path) -> None:
    c = running
    bundle = c.issue(c.a)
    for name, begin in FAULTS:
        async with client(c, bundle) as ours, http(c, tmp_path / "bundle", bundle) as session:
            await ours.range(f"/aisix/{c.a}/")
            began = begin(c)
            if began is not None:
                await began
            await fails(ours, f"/aisix/{c.a}/")
            with pytest.raises((aiohttp.ClientError, TimeoutError)):
                await session.get("/dp/budget_check?api_key_id=k", timeout=aiohttp.ClientTimeout(0.2))
        await c.front.heal()
        async with client(c, bundle) as ours, http(c, tmp_path / "bundle", bundle) as session:
            assert (await ours.range(f"/aisix/{c.a}/")).revision > 0, name
            assert (await session.get("/dp/budget_check?api_key_id=k")).status == 200, name


async def test_one_lane_fails_alone(running: Cloud, tmp_path: Path) -> None:
    c = running
    bundle = c.issue(c.a)
    async with client(c, bundle) as ours, http(c, tmp_path / "bundle", bundle) as session:
        c.front.silence(Lane.ETCD)
        await fails(ours, f"/aisix/{c.a}/")
        assert (await session.get("/dp/budget_check?api_key_id=k")).status == 200


async def test_history_ends_goes_back_and_is_replaced(running: Cloud) -> None:
    c = running
    root = f"/aisix/{c.a}/"
    last = await c.put_many(c.a, "models", {f"m-{number}": {"n": number} for number in range(150)})
    assert last == 3
    await c.snapshot("early")
    await c.put_raw(f"{root}models/m-0", b"\xff garbage")
    await c.compact()
    async with client(c, c.issue(c.a)) as ours:
        with pytest.raises(StoreError, match="compact"):
            await ours.range(root, revision=2)
        assert (await ours.range(root)).rows[0].value == b"\xff garbage"
        async with contextlib.aclosing(list_and_watch(ours, root, QUICK)) as events:

            async def listing() -> Listing:
                async for each in events:
                    if isinstance(each, Listing):
                        return each
                raise AssertionError

            assert (await listing()).revision == 4
            await c.restore("early")
            back = await listing()
            assert (back.revision, len(back.rows), back.rows[0].value) == (3, 150, b'{"n": 0}')
            await c.replace()
            assert (await listing()).rows == ()
    await c.put(c.a, "models", "m-0", {})
    await c.wipe(c.a)
    assert await c.rows(c.a) == ()


async def test_a_cloud_that_is_started_anew_on_its_folder_goes_on(tmp_path: Path) -> None:
    async with cloud(tmp_path / "cloud") as first:
        bundle, revoked, token = first.issue(first.a), first.issue(first.a), first.token(first.b)
        await first.put(first.a, "models", "m-1", {})
        await first.revoke(revoked.identity.serial)
        first.ledger.take(bundle.identity, {"events": [event("x")]})
        port = first.front.port
    with (tmp_path / "cloud" / "events.jsonl").open("a") as torn:
        torn.write('{"env_id": "half an ev')
    async with cloud(tmp_path / "cloud", port=port) as second:
        assert (second.a, second.b, second.url) == (first.a, first.b, first.url)
        assert list(second.events) == [("x", 0)]
        second.ledger.take(bundle.identity, {"events": [event("x"), event("y")]})
        assert token in second.enrolment.tokens
        assert revoked.identity.serial in second.issuer.revoked
        async with client(second, bundle) as ours:
            assert len((await ours.range(f"/aisix/{first.a}/")).rows) == 1
        await second.kill_etcd()
        await second.start_etcd()
        assert len(await second.rows(second.a)) == 1
    async with cloud(tmp_path / "cloud") as third:
        assert list(third.events) == [("x", 0), ("y", 0)]
