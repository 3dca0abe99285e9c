"""Health, probes and the description, over a socket."""

import asyncio
import json
from typing import Any

import msgspec

from aisix_common.snapshot import build, empty
from aisix_common.sources.observed import SourceStatus
from aisix_common.store.watch import list_all
from aisix_proxy.canonical.errors import UpstreamStatus
from aisix_proxy.secret_managers.report import Report
from aisix_proxy.status import Followed, StatusPages
from aisix_proxy.telemetry.instance_state import InstanceState, with_configuration

from tests.support.admin import RunningAdmin
from tests.support.builders import NOON, make

MODEL = {"display_name": "gpt", "provider": "openai", "model_name": "m", "provider_key_id": "k"}
PROVIDER_KEY = {"display_name": "key", "provider": "openai", "api_key": "sk-provider"}


async def create_model(admin: RunningAdmin, name: str = "gpt") -> dict[str, Any]:
    """A model and what it needs; its entry."""
    await admin.etcd.put(f"{admin.prefix}/provider_keys/k", json.dumps(PROVIDER_KEY).encode())
    return await admin.create("models", {**MODEL, "display_name": name})


async def instance_row(admin: RunningAdmin, id: str, **more: Any) -> None:
    """A row of a proxy; returns once the admin has seen it."""
    row = {"instance": id, "service": "proxy", "applied_revision": 3, "connected": True, "later": 1, **more}
    await admin.etcd.put(f"/run{admin.prefix}/instances/{id}", json.dumps(row).encode())
    async with asyncio.timeout(10):
        while not any(one.id == id and one.row.models == more.get("models", {}) for one in admin.services.fleet.live()):
            await asyncio.sleep(0.01)


async def test_health_is_the_worst_of_the_live_proxies(admin: RunningAdmin) -> None:
    entry = await create_model(admin)
    status, body = await admin.call("GET", "/health")
    assert (status, body["status"]) == (200, "ok")
    assert body["models"] == [{"id": entry["id"], "name": "gpt", "health": 0}]
    assert body["config"]["snapshot_revision"] > 0 and body["config"]["snapshot_age_seconds"] == 0
    await instance_row(admin, "one", models={"gpt": 1})
    await instance_row(admin, "two", models={"gpt": 2})
    status, body = await admin.call("GET", "/health")
    assert (status, body["status"], body["models"][0]["health"]) == (200, "unhealthy", 2)
    assert (await admin.send("GET", "/health", headers={})).status == 401


async def test_the_status_of_each_model(admin: RunningAdmin) -> None:
    direct = await create_model(admin)
    group = await admin.create("models", {"display_name": "some", "routing": {"targets": [{"model": "gpt"}]}})
    await admin.etcd.put(f"{admin.prefix}/models/bad", b"broken")
    await instance_row(admin, "one", models={"gpt": 2}, reasons={"gpt": "request_timeout"})
    status, body = await admin.call("GET", "/models/status")
    assert status == 200
    unhealthy = {"status": "unhealthy", "status_reason": "request_timeout"}
    assert body == [
        {"id": direct["id"], "display_name": "gpt", "kind": "direct", **unhealthy},
        {"id": group["id"], "display_name": "some", "kind": "routing", "status": "not_applicable"},
    ]
    assert (await admin.send("GET", "/models/status", headers={})).status == 401
    assert (await admin.call("DELETE", "/models/status"))[0] == 404, "a row may still have that id"


async def test_the_proxys_page_is_the_same_bytes(admin: RunningAdmin) -> None:
    for name in ("b", "a", "zz", "m"):
        await create_model(admin, name)
    await admin.create("models", {"display_name": "group", "routing": {"targets": [{"model": "a"}]}})
    world = make(build(await list_all(admin.etcd, admin.prefix + "/"), empty(admin.prefix), NOON))
    health = world.services.health
    for name, failures in {"a": 9, "b": 4, "m": 1}.items():
        for _ in range(failures):
            health.failed(name, UpstreamStatus(500, "down"))
    base = InstanceState("one", "proxy", "host", "1", "2026-11-20T12:00:00Z", applied_revision=1, connected=True)
    state = with_configuration(base, world.services.live.compiled.snapshot, SourceStatus(connected=True), health.news())
    await instance_row(admin, "one", **msgspec.to_builtins(state))
    followed = Followed(SourceStatus, lambda: None, lambda: Report({}))
    pages = StatusPages(world.services.live, health, world.lifecycle, followed)
    (_, _, shown) = await pages.models()
    answer = await admin.send("GET", "/models/status")
    assert answer.body == shown
    assert [row["display_name"] for row in answer.json] == ["a", "b", "group", "m", "zz"]
    assert [row.get("status_reason") for row in answer.json].count("upstream_server_error") == 2


async def test_instances(admin: RunningAdmin) -> None:
    assert (await admin.call("GET", "/instances")) == (200, [])
    rejected = [{"kind": "models", "id": "m", "reason": "display_name is missing"}]
    await instance_row(admin, "two", hostname="b", rejected=rejected, rejected_count=70, models={"gpt": 1})
    await instance_row(admin, "one", hostname="a", worker=1, version="0.1", config_hash="c0ffee", started_at="then")
    status, (first, second) = await admin.call("GET", "/instances")
    assert status == 200
    assert first == {
        "instance": "one",
        "service": "proxy",
        "hostname": "a",
        "worker": 1,
        "version": "0.1",
        "started_at": "then",
        "connected": True,
        "restored": False,
        "stopping": False,
        "applied_revision": 3,
        "config_hash": "c0ffee",
        "rejected_count": 0,
        "rejected": [],
        "models": {},
    }
    assert (second["rejected_count"], second["rejected"], second["models"]) == (70, rejected, {"gpt": {"health": 1}})
    await admin.etcd.delete(f"/run{admin.prefix}/instances/two")
    async with asyncio.timeout(10):
        while not admin.services.fleet.lost():
            await asyncio.sleep(0.01)
    _, (_, lost) = await admin.call("GET", "/instances")
    assert (lost["instance"], lost["connected"], "lost_at" in lost) == ("two", False, True)
    assert (await admin.send("GET", "/instances", headers={})).status == 401


async def test_probes(admin: RunningAdmin) -> None:
    for path in ("/livez", "/readyz"):
        answer = await admin.send("GET", path, headers={})
        assert (answer.status, answer.body) == (200, b"ok")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        verbose = await admin.session.get(f"{admin.url}{path}?verbose")
        assert "check passed" in await verbose.text()
    admin.services.lifecycle.begin_drain()
    for path in ("/livez", "/readyz"):
        assert (await admin.send("GET", path, headers={})).status == 503
