"""The health report, from rows to body."""

from typing import Any

import pytest

from aisix_admin.health import Freshness, Instance, instance, report, statuses
from aisix_common.resources import BY_NAME, check

FRESH = Freshness(7, 3)
MODELS = [("1", "a"), ("2", "b")]


@pytest.mark.parametrize(
    ("instances", "healths", "status"),
    [
        ([], [0, 0], "ok"),
        ([{"a": 0}], [0, 0], "ok"),
        ([{"a": 1}], [1, 0], "degraded"),
        ([{"a": 1}, {"a": 0, "b": 2}], [1, 2], "unhealthy"),
        ([{"gone": 2}], [0, 0], "ok"),
        ([{"a": 9, "b": -1}], [2, 0], "unhealthy"),
    ],
)
def test_the_worst_view_counts(instances: list[dict[str, int]], healths: list[int], status: str) -> None:
    body = report(MODELS, [Instance(models) for models in instances], FRESH)
    assert [row["health"] for row in body["models"]] == healths
    assert body["status"] == status
    assert body["config"] == {"snapshot_revision": 7, "snapshot_age_seconds": 3}


@pytest.mark.parametrize(
    ("shape", "health", "row"),
    [
        ({}, {}, ("direct", "healthy")),
        ({}, {"m": 1}, ("direct", "healthy")),
        ({}, {"m": 2}, ("direct", "unhealthy")),
        ({}, {"other": 2}, ("direct", "healthy")),
        ({"routing": {"targets": [{"model": "a"}]}}, {"m": 2}, ("routing", "not_applicable")),
        (
            {"ensemble": {"panel": [{"model": "a"}], "judge": {"model": "a"}}},
            {"m": 2},
            ("ensemble", "not_applicable"),
        ),
    ],
)
def test_statuses(shape: dict[str, Any], health: dict[str, int], row: tuple[str, str]) -> None:
    direct = {} if shape else {"provider": "openai", "model_name": "x", "provider_key_id": "k"}
    model = check(BY_NAME["models"], {"display_name": "m", **direct, **shape})
    expected = {"id": "1", "display_name": "m", "kind": row[0], "status": row[1]}
    assert statuses([("1", model)], [Instance(health), Instance({})]) == [expected]


@pytest.mark.parametrize(("age", "status"), [(None, "degraded"), (300, "ok"), (301, "degraded")])
def test_old_news_degrade(age: int | None, status: str) -> None:
    assert report([], [], Freshness(0, age))["status"] == status
    assert report(MODELS, [Instance({"a": 2})], Freshness(0, age))["status"] == "unhealthy"


@pytest.mark.parametrize(
    ("raw", "models"),
    [
        (b'{"instance_id": "x", "models": {"a": 1}, "rejected": []}', {"a": 1}),
        (b"{}", {}),
        (b"broken", None),
        (b'{"models": []}', None),
    ],
)
def test_instance_rows(raw: bytes, models: Any) -> None:
    found = instance(raw)
    assert (found.models if found else None) == models
