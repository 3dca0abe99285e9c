"""The status pages beside the metrics (control-plane 2.7, 5.2, 7): what is configured, applied and served.

Unauthenticated by contract, so nothing here holds a value of a resource beyond names and ids.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from aisix_common.model_status import in_order, model_row, render
from aisix_common.resources import Model
from aisix_common.secrets.envelope import NO_KEYRING, Keyring
from aisix_common.service import Lifecycle, Page
from aisix_common.snapshot import Snapshot
from aisix_common.sources.observed import SourceStatus
from aisix_common.sources.status import NotServed, config_status

from .compiled import Compiled, Live
from .secret_managers.report import Report
from .telemetry.model_health import ModelHealth

_JSON: Final = "application/json"
_TEXT: Final = "text/plain; charset=utf-8"
DISPATCHED: Final = frozenset({"provider_keys", "models", "api_keys"})
"""Kinds whose rows have an effect on requests."""
_SLICE: Final = 200
"""Models that are looked at before the loop gets its turn."""


def _no_keyring() -> Keyring:
    return NO_KEYRING


@dataclass(frozen=True, slots=True)
class Followed:
    """What is known, at any moment, of what this process follows."""

    source: Callable[[], SourceStatus]
    """Of the resources."""
    external: Callable[[], Snapshot | None]
    """What lies under the ext root of etcd; None where there is none."""
    secrets: Callable[[], Report]
    """Of the secret references."""
    keyring: Callable[[], Keyring] = _no_keyring
    """The present keys, for the hashes."""


class StatusPages:
    """`/status/config`, `/status/ready`, `/status/models`."""

    def __init__(self, live: Live, health: ModelHealth, lifecycle: Lifecycle, followed: Followed) -> None:
        self._live = live
        self._health = health
        self._lifecycle = lifecycle
        self._followed = followed

    def pages(self) -> dict[str, Page]:
        """By path."""
        return {"/status/config": self.config, "/status/ready": self.ready, "/status/models": self.models}

    async def config(self) -> tuple[int, str, bytes]:
        """What the source holds, what of it is applied, and what of that cannot be served."""
        followed, compiled = self._followed, self._live.compiled
        source, external = followed.source(), followed.external()
        unserved = await not_served(compiled)
        keyring = followed.keyring()
        body = await asyncio.to_thread(config_status, compiled.snapshot, source, unserved, external, keyring)
        body["secrets"] = followed.secrets().document()
        return 200, _JSON, msgspec.json.encode(body)

    async def ready(self) -> tuple[int, str, bytes]:
        """Whether any configuration was ever applied."""
        if self._lifecycle.applied:
            return 200, _TEXT, b"ok"
        return 503, _TEXT, b"no configuration available"

    async def models(self) -> tuple[int, str, bytes]:
        """One row for each model: the same bytes as the admin's `/admin/v1/models/status`."""
        news, rows = self._health.news(), []
        table = self._live.compiled.snapshot.table(Model).by_id
        for at, (id, model) in enumerate(in_order((id, entry.value) for id, entry in table.items())):
            if at % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
            rows.append(model_row(id, model, news))
        return 200, _JSON, render(rows)


async def not_served(compiled: Compiled) -> list[NotServed]:
    """Rows of kinds without effect, and models that callers get an error for, counted by reason."""
    idle = [
        NotServed(kind, len(table.by_id), "this version does not serve the kind yet")
        for kind, table in sorted(compiled.snapshot.tables.items())
        if kind not in DISPATCHED and len(table.by_id)
    ]
    reasons: Counter[str] = Counter()
    for at, model in enumerate(compiled.rows()):
        if at % _SLICE == _SLICE - 1:
            await asyncio.sleep(0)
        if model.problem is not None:
            reasons[model.problem.summary] += 1
    return idle + [NotServed("models", count, reason) for reason, count in sorted(reasons.items())]
