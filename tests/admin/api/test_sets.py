"""validate, apply, export: many documents at once, all or nothing."""

import json
from typing import Any

from tests.support.admin import RunningAdmin
from tests.support.documents import CANARIES, SAMPLES, SET

EVERYTHING = {"resources": [sample.member for sample in SET]}
KEY = {"display_name": "a", "api_key": "sk"}


async def test_one_of_every_kind_in_one_transaction(admin: RunningAdmin) -> None:
    status, body = await admin.call("POST", "/apply", EVERYTHING)
    assert status == 200, body
    assert [each["action"] for each in body["results"]] == ["created"] * len(SET)
    found = await admin.etcd.range(admin.prefix + "/")
    assert {row.mod_revision for row in found.rows} == {body["revision"]} and len(found.rows) == len(SET)
    audit = await admin.etcd.range(f"/run{admin.prefix}/audit/")
    assert len(audit.rows) == 1 and audit.rows[0].mod_revision == body["revision"]
    status, again = await admin.call("POST", "/apply", EVERYTHING)
    assert status == 200 and {each["action"] for each in again["results"]} == {"unchanged"}
    assert (await admin.etcd.range(admin.prefix + "/")).rows == found.rows, "nothing to do, nothing written"


async def test_an_export_applies_as_it_is(admin: RunningAdmin) -> None:
    await admin.call("POST", "/apply", EVERYTHING)
    answer = await admin.send("GET", "/export")
    assert answer.status == 200
    for canary in CANARIES:
        assert canary.encode() not in answer.body
    assert {each["kind"] for each in answer.json["resources"]} == set(SAMPLES)
    before = await admin.etcd.range(admin.prefix + "/")
    status, body = await admin.call("POST", "/apply", answer.json)
    assert status == 200 and {each["action"] for each in body["results"]} == {"unchanged"}, body
    assert (await admin.etcd.range(admin.prefix + "/")).rows == before.rows
    _, part = await admin.call("GET", "/export?kind=models&kind=api_keys")
    assert [each["kind"] for each in part["resources"]] == ["models", "api_keys"]
    assert (await admin.call("GET", "/export?kind=secrets"))[0] == 400


async def test_members_without_an_id_are_found_by_name(admin: RunningAdmin) -> None:
    entry = await admin.create("provider_keys", KEY)
    members = [
        {"kind": "provider_keys", "value": {**KEY, "provider": "openai"}},
        {"kind": "provider_keys", "value": {**KEY, "display_name": "b"}},
    ]
    status, body = await admin.call("POST", "/apply", {"resources": members})
    assert status == 200 and body["results"][0] == {"kind": "provider_keys", "id": entry["id"], "action": "replaced"}
    assert body["results"][1]["action"] == "created" and len(body["results"][1]["id"]) == 36


async def test_every_problem_and_nothing_written(admin: RunningAdmin) -> None:
    members: list[Any] = [
        {"kind": "provider_keys", "id": "a", "value": {"display_name": "", "bogus": 1}},
        {"kind": "provider_keys", "id": "b", "value": KEY},
        {"kind": "models", "id": "m", "value": {"display_name": "m"}},
    ]
    status, body = await admin.call("POST", "/apply", {"resources": members})
    assert status == 400
    assert {each["path"] for each in body["errors"]} == {
        "/resources/0/value/display_name",
        "/resources/0/value/api_key",
        "/resources/0/value/bogus",
        "/resources/2/value",
    }
    dangling = [{"kind": "models", "value": {**SAMPLES["models"].document, "provider_key_id": "nowhere"}}]
    status, body = await admin.call("POST", "/apply", {"resources": [members[1], *dangling]})
    assert status == 400 and [each["path"] for each in body["errors"]] == ["/resources/1/value/provider_key_id"]
    twice = [{"kind": "provider_keys", "id": id, "value": KEY} for id in ("x", "y")]
    status, body = await admin.call("POST", "/apply", {"resources": twice})
    assert status == 409
    assert not (await admin.etcd.range(admin.prefix + "/")).rows
    assert not (await admin.etcd.range(f"/run{admin.prefix}/")).rows
    nonsense: tuple[Any, ...] = (
        {},
        {"resources": {}},
        {"resources": [1]},
        {"resources": [{"kind": "x", "value": {}}]},
        {"resources": [{"kind": "models"}]},
        {"resources": [], "more": 1},
        {"resources": [twice[0], twice[0]]},
        {"delete": [{"kind": "models"}]},
        {"delete": [{"kind": "models", "id": "none"}]},
        {"resources": [{**twice[0], "id": "a\nb"}]},
    )
    for wrong in nonsense:
        status, body = await admin.call("POST", "/apply", wrong)
        assert status == 400 and body["errors"][0]["path"].startswith("/"), wrong


async def test_names_and_references_may_move_within_a_set(admin: RunningAdmin) -> None:
    await admin.call("POST", "/apply", EVERYTHING)
    swap = [
        {"kind": "provider_keys", "id": "new", "value": {**KEY, "display_name": "openai"}},
        {"kind": "models", "id": "models-1", "value": {**SAMPLES["models"].document, "provider_key_id": "new"}},
        {
            "kind": "passthrough_routes",
            "id": "passthrough_routes-1",
            "value": {**SAMPLES["passthrough_routes"].document, "provider_key_id": "new"},
        },
    ]
    gone = [{"kind": "provider_keys", "id": "provider_keys-1"}]
    status, body = await admin.call("POST", "/apply", {"resources": swap, "delete": gone})
    assert status == 200, body
    assert [each["action"] for each in body["results"]] == ["created", "replaced", "replaced", "deleted"]
    status, body = await admin.call("POST", "/apply", {"delete": [{"kind": "provider_keys", "id": "new"}]})
    assert status == 409 and "models models-1" in body["error_msg"]


async def test_a_set_is_not_written_under_a_condition_of_one_row(admin: RunningAdmin) -> None:
    entry = await admin.create("provider_keys", KEY)
    members = [
        {"kind": "provider_keys", "id": entry["id"], "value": {**KEY, "provider": "openai"}},
        {"kind": "provider_keys", "value": {**KEY, "display_name": "b"}},
    ]
    for name, tag in (("If-Match", '"1"'), ("If-None-Match", "*")):
        headers = {"Authorization": f"Bearer {admin.key}", name: tag}
        answer = await admin.send("POST", "/apply", {"resources": members}, headers=headers)
        assert answer.status == 400 and "PUT or PATCH" in answer.json["error_msg"]
    assert (await admin.call("GET", "/provider_keys"))[1] == [entry]


async def test_a_set_that_is_too_large_names_its_limit(admin: RunningAdmin) -> None:
    many = [{"kind": "provider_keys", "value": {**KEY, "display_name": f"k{n}"}} for n in range(101)]
    status, body = await admin.call("POST", "/apply", {"resources": many})
    assert status == 413 and "100" in body["error_msg"] and "49" in body["error_msg"]
    status, body = await admin.call("POST", "/apply", {"resources": many[:49]})
    assert status == 200, body
    answer = await admin.send("POST", "/validate", {"resources": [{}] * 100_000})
    assert answer.status == 413 and len(answer.body) < 1000, "no list of what is wrong with each"
    big = [
        {"kind": "provider_keys", "value": {**KEY, "display_name": f"b{n}", "tls": {"ca_cert": "x" * 300_000}}}
        for n in range(4)
    ]
    status, body = await admin.call("POST", "/apply", {"resources": big})
    assert status == 413 and str(1024 * 1024) in body["error_msg"]
    assert (await admin.call("POST", "/apply", json.dumps({"resources": ["x" * 2**21]}).encode()))[0] in (413, 415)


async def test_a_dry_run_writes_nothing(admin: RunningAdmin) -> None:
    status, body = await admin.call("POST", "/validate", {"kind": "provider_keys", "value": KEY})
    assert status == 200 and body["valid"] and body["value"]["api_key"] == "***"
    assert body["value"]["strip_headers"], "as it would be stored: defaults written out"
    status, body = await admin.call(
        "POST", "/validate", {"kind": "provider_keys", "value": {"display_name": 1, "x": 1}}
    )
    assert status == 200 and not body["valid"]
    assert {each["path"] for each in body["errors"]} == {"/value/display_name", "/value/api_key", "/value/x"}
    status, body = await admin.call("POST", "/validate", {"kind": "models", "value": dict(SAMPLES["models"].document)})
    assert not body["valid"] and body["errors"][0]["path"] == "/value/provider_key_id"
    entry = await admin.create("provider_keys", KEY)
    status, body = await admin.call("POST", "/validate", {"kind": "provider_keys", "id": "other", "value": KEY})
    assert not body["valid"] and "already in use" in body["errors"][0]["message"]
    status, body = await admin.call("POST", "/validate", {"kind": "provider_keys", "id": entry["id"], "value": KEY})
    assert body["valid"] and body["value"] == entry["value"], "also what is stored already is shown masked"
    caller = {"key": "sk-canary-sent-again", "allowed_models": []}
    await admin.call("POST", "/apply", {"resources": [{"kind": "api_keys", "id": "caller", "value": caller}]})
    answer = await admin.send("POST", "/validate", {"kind": "api_keys", "id": "caller", "value": caller})
    assert answer.json["valid"] and b"canary" not in answer.body
    status, body = await admin.call("POST", "/validate", EVERYTHING)
    assert body["valid"] and len(body["changes"]) == len(SET)
    assert (await admin.call("GET", "/provider_keys"))[1] == [entry]
    assert (await admin.call("POST", "/validate", {"kind": "nothing", "value": {}}))[1]["valid"] is False
