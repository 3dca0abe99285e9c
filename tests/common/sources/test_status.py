"""What operators see: the body of /status/config and the numbers of the metrics."""

from typing import Any

import pytest

from aisix_common.resources import EXTERNAL_KINDS, KINDS, Rejected
from aisix_common.snapshot import Overlay, Snapshot, apply, build, config_hash, empty, source_hash
from aisix_common.sources.observed import LastFailure, LastReload, SourceStatus
from aisix_common.sources.status import MOST_LISTED, NotServed, config_numbers, config_status, state
from aisix_common.store.types import KeyValue

from tests.common.snapshot.rows import BAD, LATER, MUCH_LATER, NOON, PREFIX, api_key, changes, listing, row


def built(*rows: KeyValue) -> Snapshot:
    return build(listing(*rows), empty(PREFIX), NOON)


@pytest.mark.parametrize(
    ("snapshot", "expected"),
    [
        (empty(PREFIX), "never_loaded"),
        (built(), "empty"),
        (built(api_key("a", "h", 1)), "synced"),
        (built(api_key("a", "h", 1), row("models/m", b"{", 2)), "degraded"),
        (built(row("models/m", b"{", 2)), "out_of_sync"),
        (built(row("guardrails/g", b'{"name":"g","kind":"pii"}', 2)), "synced"),
    ],
)
def test_state(snapshot: Snapshot, expected: str) -> None:
    assert state(snapshot) == expected


def test_before_anything_was_read() -> None:
    assert config_status(empty(PREFIX), SourceStatus()) == {
        "state": "never_loaded",
        "source": {"type": "etcd", "connected": False},
        "last_failure": None,
        "rejected": [],
        "partially_compatible": [],
        "shadowed": [],
        "not_served": [],
    }


def test_the_whole_body() -> None:
    good = built(
        api_key("a", "h1", 1, new=1),
        api_key("b", "h1", 2, new=1),
        row("guardrails/g", b'{"name":"g","kind":"pii"}', 3),
        KeyValue("/aisix/nonsense", b"{}", 4, 4),
    )
    snapshot = apply(good, changes(row("api_keys/a", BAD, 5, created=1)), LATER)
    status = SourceStatus(
        at=MUCH_LATER,
        connected=True,
        observed_revision=9,
        observed_at=LATER,
        applied_revision=9,
        last_reload=LastReload(False, LATER),
        last_failure=LastFailure(LATER, "schema_failed", "why"),
    )
    body = config_status(snapshot, status, [NotServed("models", 2, "no such shape yet")])
    why = "schema validation failed at `/key_hash`: value is shorter than 1 character"
    assert body == {
        "state": "degraded",
        "source": {
            "type": "etcd",
            "connected": True,
            "observed_revision": 9,
            "source_hash": source_hash(snapshot),
            "observed_at": "2030-01-01T12:01:00Z",
        },
        "applied": {
            "applied_revision": 9,
            "config_hash": config_hash(snapshot),
            "apply_seq": 1,
            "applied_at": "2030-01-01T12:00:00Z",
            "resource_counts": {"api_keys": 2, "guardrails": 1},
        },
        "last_reload": {"successful": False, "at": "2030-01-01T12:01:00Z"},
        "last_failure": {"at": "2030-01-01T12:01:00Z", "last_error_kind": "schema_failed", "last_error": "why"},
        "rejected": [
            {
                "resource_kind": "",
                "resource_id": "",
                "last_error_kind": "bad_key",
                "last_error": "the key is not <prefix>/<kind>/<id>: delete it, or move it out of the prefix",
                "first_seen_at": "2030-01-01T12:00:00Z",
                "last_seen_at": "2030-01-01T12:00:00Z",
            },
            {
                "resource_kind": "api_keys",
                "resource_id": "a",
                "last_error_kind": "schema_failed",
                "last_error": why,
                "first_seen_at": "2030-01-01T12:01:00Z",
                "last_seen_at": "2030-01-01T12:01:00Z",
                "serving_stale_since": "2030-01-01T12:01:00Z",
                "serving_stale_age_seconds": 3540,
            },
        ],
        "partially_compatible": [{"resource_kind": "api_keys", "field": "new", "count": 2}],
        "shadowed": [{"resource_kind": "api_keys", "resource_id": "b", "shadowed_by": "a"}],
        "not_served": [
            {"resource_kind": "models", "count": 2, "reason": "no such shape yet"},
        ],
    }


def test_the_list_of_rejections_is_cut_to_the_newest() -> None:
    snapshot = built(*(row(f"models/{n:04}", b"{", n + 1) for n in range(MOST_LISTED + 50)))
    listed = config_status(snapshot, SourceStatus())["rejected"]
    assert [each["resource_id"] for each in listed] == [f"{n:04}" for n in range(50, MOST_LISTED + 50)]
    assert config_numbers(snapshot, SourceStatus()).rejected_resources["models"] == MOST_LISTED + 50


def test_numbers() -> None:
    good = built(api_key("a", "h", 1, new=1), row("made_up/x", b"{}", 2), KeyValue("/aisix/x", b"", 3, 3))
    snapshot = apply(good, changes(row("api_keys/a", BAD, 5, created=1)), LATER)
    numbers: Any = config_numbers(snapshot, SourceStatus(connected=True, observed_revision=5, failures={"fetch": 2}))
    none = {kind.name: 0 for kind in KINDS}
    assert numbers.rejected_resources == {**none, "api_keys": 1, "unknown": 2}
    assert numbers.stale_served_resources == {**none, "api_keys": 1, "unknown": 0}
    assert numbers.partially_compatible_resources == {**none, "api_keys": 1}
    assert numbers.reload_failures_total == {"fetch": 2, "parse": 0, "validate": 0}
    assert (numbers.source_connected, numbers.observed_revision, numbers.applied_revision) == (1, 5, None)
    assert numbers.last_reload_successful == 0


def test_a_row_of_one_of_our_kinds_under_the_wrong_root() -> None:
    numbers = config_numbers(built(row("secret_providers/x", b"{}", 1)), SourceStatus())
    assert {kind: count for kind, count in numbers.rejected_resources.items() if count} == {"unknown": 1}


class TestTheExtRoot:
    AWS = b'{"manager":"aws","name":"main","new":1}'
    ROWS = (
        KeyValue("/ext/aisix/secret_providers/1", AWS, 1, 1),
        KeyValue("/ext/aisix/secret_providers/2", AWS, 2, 2),
        KeyValue("/ext/aisix/secret_providers/3", b"{}", 3, 3),
        KeyValue("/ext/aisix/models/m", b"{}", 4, 4),
    )
    EXTERNAL = build(listing(*ROWS), empty("/ext/aisix", EXTERNAL_KINDS), NOON)

    def test_its_rows_are_listed_and_no_part_of_the_hashes(self) -> None:
        snapshot = built(api_key("a", "h", 1), row("models/m", b"{", 2))
        plain = config_status(snapshot, SourceStatus())
        body = config_status(snapshot, SourceStatus(), external=self.EXTERNAL)
        listed = [(bad["resource_kind"], bad["resource_id"], bad["last_error_kind"]) for bad in body["rejected"]]
        assert sorted(listed) == [
            ("models", "m", "non_json"),
            ("models", "m", "unknown_kind"),
            ("secret_providers", "3", "schema_failed"),
        ]
        assert body["shadowed"] == [{"resource_kind": "secret_providers", "resource_id": "2", "shadowed_by": "1"}]
        assert body["partially_compatible"] == [{"resource_kind": "secret_providers", "field": "new", "count": 2}]
        assert body["applied"]["resource_counts"] == {"api_keys": 1, "secret_providers": 2}
        for part in ("config_hash", "apply_seq"):
            assert body["applied"][part] == plain["applied"][part]

    def test_its_rejections_are_seen_in_the_state(self) -> None:
        snapshot = built(api_key("a", "h", 1))
        assert state(snapshot) == "synced"
        assert state(snapshot, None, self.EXTERNAL) == "degraded"
        assert state(snapshot, None, empty("/ext/aisix", EXTERNAL_KINDS)) == "synced"

    def test_kinds_without_rows_are_not_counted(self) -> None:
        nothing = empty("/ext/aisix", EXTERNAL_KINDS)
        body = config_status(built(api_key("a", "h", 1)), SourceStatus(), external=nothing)
        assert body["applied"]["resource_counts"] == {"api_keys": 1}

    def test_numbers(self) -> None:
        numbers = config_numbers(built(row("models/m", b"{", 2)), SourceStatus(), self.EXTERNAL)
        none = {kind.name: 0 for kind in (*KINDS, *EXTERNAL_KINDS)}
        assert numbers.rejected_resources == {**none, "models": 1, "secret_providers": 1, "unknown": 1}
        assert numbers.stale_served_resources == {**none, "unknown": 0}
        assert numbers.partially_compatible_resources == {**none, "secret_providers": 2}


def test_what_references_do_not_lead_to_is_listed() -> None:
    snapshot = Overlay(PREFIX).apply(
        built(api_key("a", "$env://X", 1), api_key("b", "h", 2)),
        lambda kind, entry: Rejected("secret_unresolved", "leads nowhere"),
        {},
        NOON,
    )
    body = config_status(snapshot, SourceStatus())
    (bad,) = body["rejected"]
    assert (bad["resource_id"], bad["last_error_kind"], bad["last_error"]) == (
        "a",
        "secret_unresolved",
        "leads nowhere",
    )
    assert (body["state"], body["applied"]["resource_counts"]) == ("degraded", {"api_keys": 1})
    assert config_numbers(snapshot, SourceStatus()).rejected_resources["api_keys"] == 1
