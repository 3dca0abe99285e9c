"""What stands around a write: the receipt and the query's switches."""

import msgspec
import pytest

from tests.support.admin import RunningAdmin

KEY = {"display_name": "a", "api_key": "k"}


async def instance(admin: RunningAdmin, name: str, revision: int) -> None:
    """A proxy's row that has applied `revision`."""
    row = {
        "instance": name,
        "service": "proxy",
        "hostname": "here",
        "version": "0",
        "started_at": "2026-01-01T00:00:00Z",
        "applied_revision": revision,
        "connected": True,
    }
    await admin.etcd.put(f"/run{admin.prefix}/instances/{name}", msgspec.json.encode(row))


async def test_a_receipt_says_how_far_a_write_has_got(admin: RunningAdmin) -> None:
    status, entry = await admin.call("POST", "/provider_keys?wait=1s", KEY)
    assert status == 200 and entry["applied"] == {"instances": 0, "of": 0, "revision": entry["revision"]}
    await instance(admin, "fast", 10**9)
    await instance(admin, "slow", 1)
    path = f"/provider_keys/{entry['id']}"
    status, body = await admin.call("PUT", f"{path}?wait=300ms", KEY)
    assert body["applied"] == {"instances": 1, "of": 2, "revision": body["revision"]}
    await instance(admin, "slow", 10**9)
    status, body = await admin.call("PATCH", f"{path}?wait=5s", {"provider": "", "strip_headers": []})
    assert body["applied"]["instances"] == body["applied"]["of"] == 2
    status, body = await admin.call("DELETE", f"{path}?wait=5s")
    assert status == 200 and body["applied"]["instances"] == 2 and body["deleted"] is True
    assert "applied" not in (await admin.call("POST", "/provider_keys", KEY))[1], "only who asks waits"


@pytest.mark.parametrize("query", ["wait=soon", "wait=31s", "wait=-1", "force=1", "purge=yes"])
async def test_a_wrong_query_writes_nothing(admin: RunningAdmin, query: str) -> None:
    status, body = await admin.call("POST", f"/provider_keys?{query}", KEY)
    assert status == 400 and body["errors"][0]["path"] == "?" + query.split("=")[0]
    assert (await admin.call("GET", "/provider_keys"))[1] == []
