"""The status pages beside the metrics (control-plane 2.7, 5.2, 7): what is configured, applied and served.

Unauthenticated by contract, so nothing here holds a value of a resource beyond names and ids.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import msgspec

from aisix_common.service import Lifecycle, Page
from aisix_common.sources.observed import SourceStatus
from aisix_common.sources.status import NotServed, config_status

from .compiled import Compiled, Live
from .compiled_model import CompiledModel
from .telemetry.model_health import ModelHealth

_JSON: Final = "application/json"
_TEXT: Final = "text/plain; charset=utf-8"
_SLICE: Final = 200
"""Models that are looked at before the loop gets its turn."""


class StatusPages:
    """`/status/config`, `/status/ready`, `/status/models`."""

    def __init__(
        self, live: Live, health: ModelHealth, lifecycle: Lifecycle, source: Callable[[], SourceStatus]
    ) -> None:
        self._live = live
        self._health = health
        self._lifecycle = lifecycle
        self._source = source

    def pages(self) -> dict[str, Page]:
        """By path."""
        return {"/status/config": self.config, "/status/ready": self.ready, "/status/models": self.models}

    async def config(self) -> tuple[int, str, bytes]:
        """What the source holds, what of it is applied, and what of that cannot be served."""
        compiled, source = self._live.compiled, self._source()
        unserved = await not_served(compiled)
        body = await asyncio.to_thread(config_status, compiled.snapshot, source, unserved)
        return 200, _JSON, msgspec.json.encode(body)

    async def ready(self) -> tuple[int, str, bytes]:
        """Whether any configuration was ever applied."""
        if self._lifecycle.applied:
            return 200, _TEXT, b"ok"
        return 503, _TEXT, b"no configuration available"

    async def models(self) -> tuple[int, str, bytes]:
        """One row for each model."""
        rows = []
        for at, model in enumerate(self._live.compiled.rows()):
            if at % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
            rows.append(model_row(model, self._health))
        return 200, _JSON, msgspec.json.encode(rows)


async def not_served(compiled: Compiled) -> list[NotServed]:
    """Models that are loaded and that callers get an error for, counted by reason."""
    reasons: Counter[str] = Counter()
    for at, model in enumerate(compiled.rows()):
        if at % _SLICE == _SLICE - 1:
            await asyncio.sleep(0)
        if model.problem is not None:
            reasons[model.problem.summary] += 1
    return [NotServed("models", count, reason) for reason, count in sorted(reasons.items())]


def model_row(model: CompiledModel, health: ModelHealth) -> dict[str, Any]:
    """The row of control-plane 5.2. A direct model is unhealthy after eight consecutive failures."""
    kind = model.entry.value.shape
    row: dict[str, Any] = {"id": model.id, "display_name": model.name, "kind": kind}
    if kind != "direct":
        return row | {"status": "not_applicable"}
    row["status"] = "unhealthy" if health.level(model.name) == 2 else "healthy"
    if reason := health.reason(model.name):
        row["status_reason"] = reason
    return row
