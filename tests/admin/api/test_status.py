"""Health, probes and the description, over a socket."""

import json
from typing import Any

from tests.support.admin import RunningAdmin

MODEL = {"display_name": "gpt", "provider": "openai", "model_name": "m", "provider_key_id": "k"}


async def instance_row(admin: RunningAdmin, id: str, models: dict[str, Any]) -> None:
    row = {"instance_id": id, "service": "proxy", "applied_revision": 3, "models": models, "rejected": []}
    await admin.etcd.put(f"/run/{admin.prefix.lstrip('/')}/instances/{id}", json.dumps(row).encode())


async def test_health_is_the_worst_of_the_live_proxies(admin: RunningAdmin) -> None:
    entry = await admin.create("models", MODEL)
    status, body = await admin.call("GET", "/health")
    assert (status, body["status"]) == (200, "ok")
    assert body["models"] == [{"id": entry["id"], "name": "gpt", "health": 0}]
    assert body["config"]["snapshot_revision"] > 0 and body["config"]["snapshot_age_seconds"] == 0
    await instance_row(admin, "one", {"gpt": 1})
    await instance_row(admin, "two", {"gpt": 2})
    status, body = await admin.call("GET", "/health")
    assert (status, body["status"], body["models"][0]["health"]) == (200, "unhealthy", 2)
    assert (await admin.send("GET", "/health", headers={})).status == 401


async def test_the_status_of_each_model(admin: RunningAdmin) -> None:
    direct = await admin.create("models", MODEL)
    group = await admin.create("models", {"display_name": "some", "routing": {"targets": [{"model": "gpt"}]}})
    await admin.etcd.put(f"{admin.prefix}/models/bad", b"broken")
    await instance_row(admin, "one", {"gpt": 2})
    status, body = await admin.call("GET", "/models/status")
    assert status == 200
    assert sorted(body, key=lambda row: str(row["display_name"])) == [
        {"id": direct["id"], "display_name": "gpt", "kind": "direct", "status": "unhealthy"},
        {"id": group["id"], "display_name": "some", "kind": "routing", "status": "not_applicable"},
    ]
    assert (await admin.send("GET", "/models/status", headers={})).status == 401
    assert (await admin.call("DELETE", "/models/status"))[0] == 404, "a row may still have that id"


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
