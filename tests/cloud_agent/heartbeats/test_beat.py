"""The body of a heartbeat, field by field."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from aisix_cloud_agent.heartbeats.beat import beat
from aisix_cloud_agent.heartbeats.instances import InstanceRow, RejectedRow, UnknownField
from aisix_cloud_agent.identity.identity import Identity

ENV = "0b7e7f2e-5c0b-4c3e-9d5b-1f0a2c3d4e5f"
NOW = datetime(2026, 11, 27, 12, 0, 0, 900_000, tzinfo=UTC)
IDENTITY = Identity(ENV, "dp-7", NOW, NOW + timedelta(days=1), "1", "")


def said(row: InstanceRow, cloud_revision: int = 0) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.json.decode(beat(IDENTITY, "i-1", row, cloud_revision, NOW))
    return document


def test_what_is_always_there_and_nothing_else() -> None:
    assert said(InstanceRow()) == {
        "dp_id": "dp-7",
        "instance_id": "i-1",
        "hostname": "",
        "uptime_seconds": 0,
        "version": "",
        "supported_guardrail_kinds": [],
        "applied_revision": 0,
        "exporter_health": [],
    }


def test_all_of_it() -> None:
    row = InstanceRow(
        service="proxy",
        hostname="node-1",
        version="0.1.0+sha-abc",
        started_at="2026-11-27T11:58:30Z",
        applied_revision=12345,
        external_revision=12,
        config_hash="ab" * 100,
        supported_guardrail_kinds=("keyword", "pii"),
        rejected=(
            RejectedRow("models", "m/1", "x" * 300, "schema_failed", 1_700_000_000),
            RejectedRow("provider_keys", "p", "bad", "non_json", 5, stale_since=4),
            RejectedRow("secret_providers", "v", "bad", "parse_failed", 6, external=True),
            RejectedRow("", "", "bad", "bad_key", 7, key="junk"),
        ),
        partially_compatible=(UnknownField("models", "extra.x", 3),),
    )
    document = said(row, 42)
    assert document == {
        "dp_id": "dp-7",
        "instance_id": "i-1",
        "hostname": "node-1",
        "uptime_seconds": 90,
        "version": "0.1.0+sha-abc",
        "supported_guardrail_kinds": ["keyword", "pii"],
        "applied_revision": 42,
        "config_hash": "ab" * 64,
        "exporter_health": [],
        "rejected_resources": [
            {
                "key": f"/aisix/{ENV}/models/m/1",
                "kind": "schema_failed",
                "error": "x" * 256,
                "timestamp_unix_secs": 1_700_000_000,
            },
            {
                "key": f"/aisix/{ENV}/provider_keys/p",
                "kind": "non_json",
                "error": "bad",
                "timestamp_unix_secs": 5,
                "stale_serving_since_unix_secs": 4,
            },
            {
                "key": f"/ext/aisix/{ENV}/secret_providers/v",
                "kind": "parse_failed",
                "error": "bad",
                "timestamp_unix_secs": 6,
            },
            {"key": f"/aisix/{ENV}/junk", "kind": "bad_key", "error": "bad", "timestamp_unix_secs": 7},
        ],
        "partially_compatible_resources": [{"kind": "models", "field": "extra.x", "count": 3}],
    }


@pytest.mark.parametrize(
    ("started_at", "seconds"),
    [
        ("2026-11-27T12:00:00Z", 0),
        ("2026-11-27T11:00:00+00:00", 3600),
        ("2026-11-27T13:00:00Z", 0),  # a clock that is ahead
        ("2026-11-27T11:00:00", 0),  # of which zone?
        ("yesterday", 0),
        ("", 0),
    ],
)
def test_its_uptime(started_at: str, seconds: int) -> None:
    assert said(InstanceRow(started_at=started_at))["uptime_seconds"] == seconds


def test_it_is_bounded_whatever_the_row_holds() -> None:
    row = InstanceRow(rejected=(RejectedRow(),) * 5000, partially_compatible=(UnknownField(),) * 5000)
    document = said(row)
    assert len(document["rejected_resources"]) == len(document["partially_compatible_resources"]) == 256
