"""The answer of `/admin/v1/health`, made from what the proxies write about themselves. Pure.

A model's health is the worst any live proxy sees (control-plane 5.2: 0 well, 1 failing, 2 failing for long).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from aisix_common.model_status import ModelNews

OLD: Final = 300
"""Seconds without news from etcd after which the configuration counts as stale."""

_WORDS: Final = {0: "ok", 1: "degraded", 2: "unhealthy"}


@dataclass(frozen=True, slots=True)
class Freshness:
    """How far this process has followed etcd: the revision, and the seconds since it last heard, None for never."""

    revision: int
    age: int | None


def report(models: Iterable[tuple[str, str]], news: ModelNews, freshness: Freshness | None) -> dict[str, Any]:
    """The body. `models` are (id, display_name). `freshness` None: they come from a file, which does not grow old."""
    shown = [(id, name, news.levels.get(name, 0)) for id, name in models]
    level = max((health for _, _, health in shown), default=0)
    stale = freshness is not None and (freshness.age is None or freshness.age > OLD)
    body: dict[str, Any] = {
        "status": _WORDS[max(level, 1 if stale else 0)],
        "models": [{"id": id, "name": name, "health": health} for id, name, health in shown],
    }
    if freshness is not None:
        body["config"] = {"snapshot_revision": freshness.revision, "snapshot_age_seconds": freshness.age}
    return body
