"""The status pages: what is configured, applied and served."""

import json
from typing import Any

from aisix_common.resources import EXTERNAL_KINDS
from aisix_common.secrets.envelope import NO_KEYRING, Keyring
from aisix_common.snapshot import Snapshot, build, empty
from aisix_common.sources.observed import SourceStatus
from aisix_common.store.types import KeyValue, Listing
from aisix_proxy.canonical.errors import UpstreamStatus
from aisix_proxy.secret_managers.report import Report, Trouble
from aisix_proxy.status import Followed, StatusPages

from tests.common.snapshot.sealed import NEW, OLD, with_unknown
from tests.support.builders import NOON, SECRET, World, api_key, make, model, provider_key, snapshot_of

REPORT = Report(
    {"pending": 0, "good": 3, "stale": 0, "failed": 1},
    (Trouble("$secret://vault/v/a/k", "failed", "no such secret", NOON),),
)
GROUP = ("models", "r", {"display_name": "group", "routing": {"targets": [{"model": "a"}]}})


def pages(world: World, external: Snapshot | None = None, keyring: Keyring = NO_KEYRING) -> StatusPages:
    services = world.services
    followed = Followed(lambda: SourceStatus(connected=True), lambda: external, lambda: REPORT, lambda: keyring)
    return StatusPages(services.live, services.health, world.lifecycle, followed)


def world() -> World:
    return make(snapshot_of(provider_key(), model("a"), model("b", provider_key_id="gone"), GROUP, api_key()))


async def body(answer: tuple[int, str, bytes]) -> Any:
    assert (answer[0], answer[1]) == (200, "application/json")
    assert SECRET.encode() not in answer[2]
    return json.loads(answer[2])


async def test_config() -> None:
    found = await body(await pages(world()).config())
    assert found["state"] == "synced"
    assert found["applied"]["resource_counts"] == {"api_keys": 1, "models": 3, "provider_keys": 1}
    assert [(row["resource_kind"], row["count"]) for row in found["not_served"]] == [("models", 1), ("models", 1)]


async def test_the_hashes_are_over_opened_documents() -> None:
    found = []
    for keyring in (NO_KEYRING, OLD, NEW):
        snapshot = build(Listing((with_unknown("k", 1, keyring),), 1), empty("/aisix"), NOON, keyring)
        page = await body(await pages(make(snapshot), keyring=keyring).config())
        found.append((page["source"]["source_hash"], page["applied"]["config_hash"]))
    assert len({each for pair in found for each in pair}) == 1


async def test_references_and_what_lies_under_the_ext_root_are_told_of() -> None:
    bad = KeyValue("/ext/aisix/secret_providers/p", b"{", 3, 3)
    external = build(Listing((bad,), 3), empty("/ext/aisix", EXTERNAL_KINDS), NOON)
    found = await body(await pages(world(), external).config())
    assert found["secrets"] == {
        "pending": 0,
        "resolved": 3,
        "stale": 0,
        "failed": 1,
        "references": [
            {
                "reference": "$secret://vault/v/a/k",
                "state": "failed",
                "reason": "no such secret",
                "since": "2026-11-20T12:00:00Z",
            }
        ],
    }
    assert [(row["resource_kind"], row["resource_id"]) for row in found["rejected"]] == [("secret_providers", "p")]


async def test_rows_of_kinds_without_effect_are_counted() -> None:
    rows = [("guardrails", name, {"name": name, "kind": "pii"}) for name in ("a", "b")]
    found = await body(await pages(make(snapshot_of(*rows))).config())
    assert found["applied"]["resource_counts"] == {"guardrails": 2}
    reason = "this version does not serve the kind yet"
    assert found["not_served"] == [{"resource_kind": "guardrails", "count": 2, "reason": reason}]


async def test_ready() -> None:
    empty = make()
    assert await pages(empty).ready() == (503, "text/plain; charset=utf-8", b"no configuration available")
    assert (await pages(world()).ready())[2] == b"ok"


async def test_models() -> None:
    ours = world()
    for _ in range(8):
        ours.services.health.failed("a", UpstreamStatus(500, "down"))
    rows = {row["display_name"]: row for row in await body(await pages(ours).models())}
    assert rows["a"] == {
        "id": "id-a",
        "display_name": "a",
        "kind": "direct",
        "status": "unhealthy",
        "status_reason": "upstream_server_error",
    }
    assert rows["b"]["status"] == "healthy"
    assert rows["group"] == {"id": "r", "display_name": "group", "kind": "routing", "status": "not_applicable"}


async def test_many_models_let_the_loop_breathe() -> None:
    many = make(snapshot_of(provider_key(), *[model(f"m{n}") for n in range(500)]))
    assert len(await body(await pages(many).models())) == 500
    assert (await body(await pages(many).config()))["not_served"] == []
