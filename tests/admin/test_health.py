"""The health report, from news to body."""

import pytest

from aisix_admin.health import Freshness, report
from aisix_common.model_status import ModelNews

FRESH = Freshness(7, 3)
MODELS = [("1", "a"), ("2", "b")]


@pytest.mark.parametrize(
    ("levels", "healths", "status"),
    [
        ({}, [0, 0], "ok"),
        ({"a": 1}, [1, 0], "degraded"),
        ({"a": 1, "b": 2}, [1, 2], "unhealthy"),
        ({"gone": 2}, [0, 0], "ok"),
    ],
)
def test_the_worst_model_counts(levels: dict[str, int], healths: list[int], status: str) -> None:
    body = report(MODELS, ModelNews(levels), FRESH)
    assert [row["health"] for row in body["models"]] == healths
    assert body["status"] == status
    assert body["config"] == {"snapshot_revision": 7, "snapshot_age_seconds": 3}


@pytest.mark.parametrize(("age", "status"), [(None, "degraded"), (300, "ok"), (301, "degraded")])
def test_old_news_degrade(age: int | None, status: str) -> None:
    assert report([], ModelNews(), Freshness(0, age))["status"] == status
    assert report(MODELS, ModelNews({"a": 2}), Freshness(0, age))["status"] == "unhealthy"


def test_a_file_does_not_grow_old() -> None:
    body = report(MODELS, ModelNews(), None)
    assert (body["status"], "config" in body) == ("ok", False)
