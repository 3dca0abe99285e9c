"""A caller key gets a new secret; the old one may live a while longer."""

import hashlib
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.admin import RunningAdmin


def digest(plaintext: str) -> str:
    return hashlib.sha256(plaintext.encode()).hexdigest()


async def test_a_rotation_without_a_body_ends_the_old_key(admin: RunningAdmin) -> None:
    entry = await admin.create("api_keys", {"allowed_models": ["a"], "team_id": "t"})
    status, body = await admin.call("POST", f"/api_keys/{entry['id']}/rotate")
    assert status == 200 and set(body) == {"entry", "plaintext"}
    assert body["entry"]["value"] == {**entry["value"], "key_hash": digest(body["plaintext"])}
    assert body["plaintext"].startswith("sk-") and body["plaintext"] not in admin.logged
    answer = await admin.send("POST", f"/apikeys/{entry['id']}/rotate")
    assert answer.status == 200, "under the older name, too"
    assert answer.headers["ETag"] == f'"{answer.json["entry"]["revision"]}"'


async def test_keys_overlap(admin: RunningAdmin) -> None:
    entry = await admin.create("api_keys", {"key": "sk-one", "allowed_models": []})
    path = f"/api_keys/{entry['id']}"
    _, body = await admin.call("POST", f"{path}/rotate", {"overlap_seconds": 3600})
    (previous,) = body["entry"]["value"]["previous_keys"]
    assert previous["hash"] == digest("sk-one")
    until = datetime.fromisoformat(previous["until"].replace("Z", "+00:00"))
    assert abs(until - datetime.now(UTC) - timedelta(hours=1)) < timedelta(minutes=1)
    second = body["plaintext"]
    _, body = await admin.call("POST", f"{path}/rotate", {"overlap_seconds": 60})
    assert [each["hash"] for each in body["entry"]["value"]["previous_keys"]] == [digest(second), digest("sk-one")]
    for _ in range(10):
        _, body = await admin.call("POST", f"{path}/rotate", {"overlap_seconds": 60})
    assert len(body["entry"]["value"]["previous_keys"]) == 8
    _, body = await admin.call("PATCH", path, {"previous_keys": None})
    assert "previous_keys" not in body["value"], "an overlap can be ended"


@pytest.mark.parametrize(
    "body", [{"overlap_seconds": -1}, {"overlap_seconds": 1.5}, {"overlap": 1}, {"overlap_seconds": 10**9}]
)
async def test_what_is_refused(admin: RunningAdmin, body: object) -> None:
    entry = await admin.create("api_keys", {"allowed_models": [], "key": "sk-mine"})
    status, answer = await admin.call("POST", f"/api_keys/{entry['id']}/rotate", body)
    assert status == 400 and answer["errors"][0]["path"]
    assert (await admin.call("GET", f"/api_keys/{entry['id']}"))[1] == entry
    assert (await admin.call("POST", "/api_keys/none/rotate"))[0] == 404
    assert (await admin.call("POST", "/models/none/rotate"))[0] == 404, "other kinds have no such call"


async def test_a_key_from_a_secret_manager_is_rotated_there(admin: RunningAdmin) -> None:
    row = b'{"key_hash":"$secret://vault/prod/key","allowed_models":[]}'
    await admin.etcd.put(f"{admin.prefix}/api_keys/x", row)
    status, body = await admin.call("POST", "/api_keys/x/rotate")
    assert status == 400 and "secret manager" in body["error_msg"]
