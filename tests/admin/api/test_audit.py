"""Who changed what, when, from where: found again by every filter, in pages, without a value."""

from typing import Any

from tests.support.admin import SECOND_KEY, RunningAdmin

KEY = {"display_name": "a", "api_key": "sk-canary-audit"}


async def found(admin: RunningAdmin, query: str = "") -> list[dict[str, Any]]:
    """The audit, newest first."""
    status, body = await admin.call("GET", f"/audit{query}")
    assert status == 200, body
    items: list[dict[str, Any]] = body["items"]
    return items


async def test_who_what_and_from_where(admin: RunningAdmin) -> None:
    headers = {"Authorization": f"Bearer {admin.key}", "x-aisix-request-id": "my-request-1"}
    entry = (await admin.send("POST", "/provider_keys", KEY, headers=headers)).json
    second = {"Authorization": f"Bearer {SECOND_KEY}"}
    answer = await admin.send("PATCH", f"/provider_keys/{entry['id']}", {"api_key": "sk-2"}, headers=second)
    newest, oldest = await found(admin)
    assert oldest["who"] == "key-1" and oldest["from"] == "127.0.0.1" and oldest["request_id"] == "my-request-1"
    assert oldest["revision"] == entry["revision"] and oldest["at"].endswith("Z")
    assert newest["who"] == "key-2" and newest["revision"] == answer.json["revision"]
    change = {"kind": "provider_keys", "id": entry["id"], "action": "patched", "label": "a", "changed": ["/api_key"]}
    assert newest["changes"] == [change]
    assert "'changed': ['/api_key']" in admin.logged
    assert "resource written" in admin.logged and "my-request-1" in admin.logged


async def test_refused_writes_leave_no_trace(admin: RunningAdmin) -> None:
    await admin.create("provider_keys", KEY)
    await admin.call("POST", "/provider_keys", KEY)
    await admin.call("POST", "/provider_keys", {"display_name": 5})
    assert len(await found(admin)) == 1


async def test_filters_and_pages(admin: RunningAdmin) -> None:
    ids = [(await admin.create("provider_keys", {**KEY, "display_name": f"k{n}"}))["id"] for n in range(7)]
    caller = await admin.create("api_keys", {"allowed_models": []})
    await admin.call("DELETE", f"/provider_keys/{ids[0]}")
    assert len(await found(admin)) == 9
    assert [each["changes"][0]["id"] for each in await found(admin, "?kind=api_keys")] == [caller["id"]]
    assert [each["changes"][0]["action"] for each in await found(admin, f"?id={ids[0]}")] == ["deleted", "created"]
    assert len(await found(admin, "?action=created")) == 8
    assert await found(admin, "?who=nobody") == []
    assert len(await found(admin, "?since=2020-01-01T00:00:00Z&until=2100-01-01T00:00:00Z")) == 9
    assert await found(admin, "?since=2100-01-01T00:00:00Z") == []
    assert await found(admin, "?until=2020-01-01T00:00:00Z") == []
    everything = await found(admin)
    pages: list[dict[str, Any]] = []
    cursor = ""
    while True:
        _, body = await admin.call("GET", f"/audit?limit=2{cursor}")
        pages += body["items"]
        if body["next_cursor"] is None:
            break
        cursor = f"&cursor={body['next_cursor']}"
    assert pages == everything
    for wrong in ("?limit=0", "?since=yesterday", "?until=x", "?kind=nothing"):
        assert (await admin.call("GET", f"/audit{wrong}"))[0] == 400
