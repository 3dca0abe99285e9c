"""What operators see: the body of /status/config and the numbers of the metrics."""

from typing import Any

import pytest

from aisix_common.resources import KINDS
from aisix_common.snapshot import Snapshot, apply, build, config_hash, empty, source_hash
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
