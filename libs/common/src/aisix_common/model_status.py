"""How models are doing, as the proxy's `/status/models` and the admin's `/admin/v1/models/status` both say it. Pure.

One renderer for both, so that one state gives the same bytes (control-plane 5.2). Knows neither who counts failures
nor how the news travel.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias

import msgspec

from .resources import Model

Level: TypeAlias = Literal[0, 1, 2]
DOWN: Final = 2
"""The level of a model that failed for long; 1 is one that fails, 0 one that does well."""


class ModelNews(msgspec.Struct, frozen=True):
    """What is known of the models that do not do well, by display_name; the others are not in it."""

    levels: Mapping[str, int] = {}
    """1 or 2."""
    reasons: Mapping[str, str] = {}
    """The `status_reason` of control-plane 5.2."""


def worst(news: Iterable[ModelNews]) -> ModelNews:
    """What several proxies know, taken together: of each model the worst, of equal ones the first reason given."""
    levels: dict[str, int] = {}
    reasons: dict[str, str] = {}
    for one in news:
        for name, level in one.levels.items():
            bounded = min(max(level, 0), DOWN)
            known = levels.get(name, 0)
            if bounded > known or (bounded == known and name not in reasons):
                levels[name] = bounded
                if reason := one.reasons.get(name, ""):
                    reasons[name] = reason
                elif bounded > known:
                    reasons.pop(name, None)
    return ModelNews(levels, reasons)


def model_row(id: str, model: Model, news: ModelNews) -> dict[str, Any]:
    """The row of one model. Virtual ones have no status of their own; a direct one is unhealthy when it is down."""
    row: dict[str, Any] = {"id": id, "display_name": model.display_name, "kind": model.shape}
    if model.shape != "direct":
        return row | {"status": "not_applicable"}
    level = news.levels.get(model.display_name, 0)
    row["status"] = "unhealthy" if level >= DOWN else "healthy"
    reason = news.reasons.get(model.display_name, "")
    if level > 0 and reason:
        row["status_reason"] = reason
    return row


def in_order(models: Iterable[tuple[str, Model]]) -> list[tuple[str, Model]]:
    """(id, model) in the order both pages have: by name, then id."""
    return sorted(models, key=lambda item: (item[1].display_name, item[0]))


def render(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """The page."""
    return msgspec.json.encode(list(rows))
