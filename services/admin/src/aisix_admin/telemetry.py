"""What the admin measures. Labels come from our own routes and outcomes, never from what a client sent."""

from collections.abc import Awaitable
from typing import TypeVar

from prometheus_async import aio

from aisix_common.metrics import Metrics

_Result = TypeVar("_Result")


class Telemetry:
    """The admin's metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._requests = metrics.counter(
            "aisix_admin_requests_total", "Requests answered by the admin API.", ("method", "route", "status")
        )
        self._seconds = metrics.summary(
            "aisix_admin_request_duration_seconds", "Time until a request of the admin API is answered.", ("route",)
        )
        self._store = metrics.counter(
            "aisix_admin_store_writes_total",
            "What became of attempted writes to etcd: committed, conflict, answer_lost, name_taken, busy.",
            ("outcome",),
        )
        self._auth = metrics.counter(
            "aisix_admin_auth_failures_total",
            "Attempts without a good admin key: missing, malformed, unknown; throttled too where refused at once.",
            ("reason",),
        )
        for reason in ("missing", "malformed", "unknown", "throttled"):
            self._auth.cell(reason).add(0)
        for outcome in ("committed", "conflict", "answer_lost", "name_taken", "busy"):
            self._store.cell(outcome).add(0)

    def settled(self, outcome: str) -> None:
        """One attempted write to etcd came to `outcome`."""
        self._store.cell(outcome).add(1)

    def auth_failed(self, reason: str) -> None:
        """One attempt had no good admin key."""
        self._auth.cell(reason).add(1)

    def answered(self, method: str, route: str, status: int) -> None:
        """One request was answered. `route` is a template of ours, or "unknown"."""
        self._requests.cell(method, route, str(status)).add(1)

    async def timed(self, route: str, work: Awaitable[_Result]) -> _Result:
        """Await `work` and record how long it took, also when it fails."""
        result: _Result = await aio.time(self._seconds.cell(route), work)
        return result
