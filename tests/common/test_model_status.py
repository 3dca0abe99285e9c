"""One row, one order, one page."""

import json
from typing import Any

import pytest

from aisix_common.model_status import ModelNews, in_order, model_row, render, worst
from aisix_common.resources import BY_NAME, Model, check

DIRECT = {"provider": "openai", "model_name": "x", "provider_key_id": "k"}
GROUP = {"routing": {"targets": [{"model": "a"}]}}
PANEL = {"ensemble": {"panel": [{"model": "a"}], "judge": {"model": "a"}}}


def model(name: str = "m", shape: dict[str, Any] = DIRECT) -> Model:
    found = check(BY_NAME["models"], {"display_name": name, **shape})
    assert isinstance(found, Model)
    return found


@pytest.mark.parametrize(
    ("shape", "level", "reason", "expected"),
    [
        (DIRECT, 0, "", {"kind": "direct", "status": "healthy"}),
        (DIRECT, 0, "timeout", {"kind": "direct", "status": "healthy"}),
        (DIRECT, 1, "timeout", {"kind": "direct", "status": "healthy", "status_reason": "timeout"}),
        (DIRECT, 2, "timeout", {"kind": "direct", "status": "unhealthy", "status_reason": "timeout"}),
        (DIRECT, 2, "", {"kind": "direct", "status": "unhealthy"}),
        (GROUP, 2, "timeout", {"kind": "routing", "status": "not_applicable"}),
        (PANEL, 2, "timeout", {"kind": "ensemble", "status": "not_applicable"}),
    ],
)
def test_rows(shape: dict[str, Any], level: int, reason: str, expected: dict[str, str]) -> None:
    news = ModelNews({"m": level, "other": 2}, {"m": reason, "other": "x"})
    assert model_row("1", model(shape=shape), news) == {"id": "1", "display_name": "m", **expected}


def test_the_worst_view_counts() -> None:
    views = [
        ModelNews({"a": 1, "b": 2}, {"a": "first", "b": "bad"}),
        ModelNews({"a": 2, "b": 1, "c": 9, "d": -1}, {"a": "second", "b": "less", "d": "nothing"}),
        ModelNews({"a": 2, "c": 2}, {"a": "third", "c": "told"}),
    ]
    together = worst(views)
    assert {name: together.levels.get(name, 0) for name in "abcd"} == {"a": 2, "b": 2, "c": 2, "d": 0}
    assert {name: together.reasons.get(name) for name in "abc"} == {"a": "second", "b": "bad", "c": "told"}
    assert worst([]) == ModelNews()
    assert worst([ModelNews({"a": 1}, {"a": "old"}), ModelNews({"a": 2})]).reasons == {}


def test_the_order_and_the_page() -> None:
    rows = in_order([("2", model("b")), ("3", model("a")), ("1", model("b"))])
    assert [id for id, _ in rows] == ["3", "1", "2"]
    assert json.loads(render(model_row(id, one, ModelNews()) for id, one in rows))[0]["display_name"] == "a"
    assert render([]) == b"[]"
