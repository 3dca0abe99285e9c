"""What a service knows of its own life: ready, busy, draining, over. Plain values, touched from the loop only."""

import asyncio
from collections.abc import Callable

from ..logs import LogWriter
from ..metrics import Metrics


class Lifecycle:
    """One per process. Request handlers `enter` and `leave`, probes read, `run_service` drives."""

    def __init__(self, log_writer: LogWriter | None = None, worker: int | None = None) -> None:
        self.log_writer = log_writer
        """Where access-log lines go (`record`); None outside `run_service`."""
        self.worker = worker
        """Index of this process among worker processes; None where there is one process. Files of a process of its own,
        such as the snapshot cache, carry it in their names."""
        self.draining = False
        """True from the first SIGINT or SIGTERM on: probes fail, answers carry `Connection: close`."""
        self.applied = False
        """True once any configuration was applied, also from the disk cache; never false again."""
        self.in_flight = 0
        """Requests whose answer is not out to its last byte; the drain waits for 0."""
        self.exit_code = 0
        """What the process will end with."""
        self._stopping = asyncio.Event()
        self._on_drain: list[Callable[[], None]] = []
        self._on_reload: list[Callable[[], None]] = []

    def enter(self) -> None:
        """A request was read: count it until `leave`."""
        self.in_flight += 1

    def leave(self) -> None:
        """The last byte of its answer was written, or its client is gone."""
        self.in_flight -= 1

    def report_to(self, metrics: Metrics) -> None:
        """Register what the frame itself counts, `aisix_log_lines_dropped_total`; `run_service` does."""
        dropped = metrics.counter(
            "aisix_log_lines_dropped_total", "Log lines lost because the output was slow or gone."
        ).cell()

        def refresh() -> None:
            dropped.value = 0 if self.log_writer is None else self.log_writer.dropped

        metrics.before_collect(refresh)

    def stop(self, exit_code: int = 0) -> None:
        """Ask the service to drain and end. The first call decides the exit code; later ones change nothing."""
        if not self._stopping.is_set():
            self.exit_code = exit_code
            self._stopping.set()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    async def stopped(self) -> None:
        """Wait until `stop` is called."""
        await self._stopping.wait()

    def on_drain(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when the drain begins; at once when it has begun."""
        if self.draining:
            callback()
        else:
            self._on_drain.append(callback)

    def on_reload(self, callback: Callable[[], None]) -> None:
        """Have `callback` called on every SIGHUP, on the event loop. Without any, SIGHUP is ignored."""
        self._on_reload.append(callback)

    def reload(self) -> bool:
        """Tell whoever asked to hear of SIGHUP; whether there was anybody."""
        for callback in self._on_reload:
            callback()
        return bool(self._on_reload)

    def begin_drain(self) -> None:
        """Turn the probes to 503 and tell whoever asked for it; idempotent."""
        if self.draining:
            return
        self.draining = True
        for callback in self._on_drain:
            callback()
