"""The answers of `/admin/v1/health` and `/models/status`, made from what the proxies write about themselves. Pure.

Each live proxy keeps a leased row under `<run root>/instances/`; a model's health is the worst any of them sees
(control-plane 5.2: 0 well, 1 failing, 2 failing for long).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from aisix_common.resources import Model

OLD: Final = 300
"""Seconds without news from etcd after which the configuration counts as stale."""

_WORDS: Final = {0: "ok", 1: "degraded", 2: "unhealthy"}


class Instance(msgspec.Struct, frozen=True):
    """The part of a proxy's row that counts here; the rest is for `/status` pages."""

    models: dict[str, int] = {}
    """Health by display_name."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """How far this process has followed etcd: the revision, and the seconds since it last heard, None for never."""

    revision: int
    age: int | None


def instance(raw: bytes) -> Instance | None:
    """What a row under `instances/` says, or None where it cannot be read: one bad row must not hide the others."""
    try:
        return msgspec.json.decode(raw, type=Instance)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def report(models: Iterable[tuple[str, str]], instances: Iterable[Instance], freshness: Freshness) -> dict[str, Any]:
    """The body. `models` are (id, display_name)."""
    worst = _worst(instances)
    shown = [{"id": id, "name": name, "health": worst.get(name, 0)} for id, name in models]
    level = max((row["health"] for row in shown if isinstance(row["health"], int)), default=0)
    stale = freshness.age is None or freshness.age > OLD
    return {
        "status": _WORDS[max(level, 1 if stale else 0)],
        "models": shown,
        "config": {"snapshot_revision": freshness.revision, "snapshot_age_seconds": freshness.age},
    }


def statuses(models: Iterable[tuple[str, Model]], instances: Iterable[Instance]) -> list[dict[str, Any]]:
    """One row for each model; `models` are (id, resource). Virtual ones have no health of their own."""
    worst = _worst(instances)
    return [
        {"id": id, "display_name": model.display_name, "kind": model.shape, "status": _status(model, worst)}
        for id, model in models
    ]


def _status(model: Model, worst: Mapping[str, int]) -> str:
    if model.shape != "direct":
        return "not_applicable"
    return "unhealthy" if worst.get(model.display_name) == 2 else "healthy"


def _worst(instances: Iterable[Instance]) -> Mapping[str, int]:
    worst: dict[str, int] = {}
    for one in instances:
        for name, health in one.models.items():
            worst[name] = max(worst.get(name, 0), min(max(health, 0), 2))
    return worst
