"""The parent of worker processes: starts them, shows them as one, passes signals on, and ends with them."""

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

from ..logs import get_logger
from ..metrics import Family, ProcessMetrics, merge
from ..processes import Child, Command
from ..service import Lifecycle, Listener, Page, serve_pages
from ..service.listener import reserve
from ..service.pages import metrics_page, with_metrics
from ..settings import Settings
from ..tasks import TaskOwner
from .folder import private_folder
from .place import Place
from .scrape import Fleet, Worker
from .status import MERGES

METRICS_SETTING: Final = "observability.metrics.prometheus.addr"
WATCH_SECONDS: Final = 0.05
"""How soon the end of a worker is noticed."""
REAP_SECONDS: Final = 1.0

_log = get_logger(__name__)


class Parent:
    """Runs `settings.proxy.workers` processes of `command` on the shared address `proxy.addr`."""

    def __init__(self, settings: Settings, command: Command) -> None:
        self._settings = settings
        self._command = command

    async def build(self, stack: AsyncExitStack, lifecycle: Lifecycle, tasks: TaskOwner) -> Sequence[Listener]:
        """Start the workers; what the parent itself listens on is the aggregated metrics listener.

        `lifecycle.in_flight` counts the workers that run. Raises CannotListen when the address is taken.
        """
        places = self._places(stack)
        fleet = Fleet([await stack.enter_async_context(Worker(place)) for place in places])
        listeners = self._listeners(fleet)
        children = []
        for place in places:
            child = Child(self._command, place.environment(os.environ))
            stack.callback(_let_go, child)
            children.append(child)
            lifecycle.enter()
            tasks.spawn(_watch(child, place.index, lifecycle), name=f"watch worker {place.index}", essential=True)
        lifecycle.on_drain(lambda: _send_all(children, signal.SIGTERM))
        if self._settings.resources_file is not None:
            lifecycle.on_reload(lambda: _send_all(children, signal.SIGHUP))
        _log.info("workers started", workers=len(children), addr=str(places[0].addresses["proxy.addr"]))
        return listeners

    def _places(self, stack: AsyncExitStack) -> list[Place]:
        directory = str(stack.enter_context(private_folder()))
        address, reserved = reserve(self._settings.proxy.addr, "proxy.addr")
        stack.callback(reserved.close)
        addresses = {"proxy.addr": address}
        return [Place(index, addresses, directory) for index in range(self._settings.proxy.workers)]

    def _listeners(self, fleet: Fleet) -> list[Listener]:
        prometheus = self._settings.observability.metrics.prometheus
        if not prometheus.enabled:
            return []
        process = ProcessMetrics()

        async def collect() -> list[Family]:
            collections = await fleet.families()
            return await asyncio.to_thread(merge, [*collections, process.collect()])

        pages = {path: _page(fleet, path) for path in MERGES}
        pages = dict(with_metrics(pages, prometheus.path, metrics_page(collect), METRICS_SETTING))
        idle = self._settings.downstream.idle_timeout_secs
        return [Listener("metrics", METRICS_SETTING, prometheus.addr, lambda: serve_pages(pages, idle_seconds=idle))]


def _page(fleet: Fleet, path: str) -> Page:
    async def page() -> tuple[int, str, bytes]:
        return MERGES[path](await fleet.pages(path))

    return page


async def _watch(child: Child, index: int, lifecycle: Lifecycle) -> None:
    """Wait for the end of a worker; one that ends unasked ends the whole service with its exit code."""
    while child.running():  # noqa: ASYNC110 - a process is no event; asking costs a system call
        await asyncio.sleep(WATCH_SECONDS)
    code = child.exit_code or 0
    if not lifecycle.draining:
        _log.error("a worker ended by itself: stopping the others", worker=index, exit_code=code)
        lifecycle.stop(code or 1)
    # One that was told to stop before it could listen to signals ends by the signal itself, which is no failure.
    elif code not in (0, 128 + signal.SIGTERM) and lifecycle.exit_code == 0:
        _log.error("a worker failed while it stopped", worker=index, exit_code=code)
        lifecycle.exit_code = code
    lifecycle.leave()


def _send_all(children: Sequence[Child], number: signal.Signals) -> None:
    for child in children:
        child.send(number)


def _let_go(child: Child) -> None:
    """The end of a worker that has ended, or of one that must not outlive a start that failed."""
    child.cut()
    try:
        child.wait(REAP_SECONDS)
    except TimeoutError:
        _log.error("a worker cannot be ended", worker=child.name, pid=child.pid)
