"""Which part of a fleet this process is: the whole service, a worker, or the parent of workers."""

import os
from collections.abc import Sequence

from ..processes import Command, hold_lifeline
from ..service import Build, run_service
from ..service.run import Frame
from ..settings import Settings
from .parent import Parent
from .place import take_place


def run_workers(name: str, settings: Settings, build: Build, *, command: Command, warnings: Sequence[str] = ()) -> int:
    """Run a service in `settings.proxy.workers` processes and give the exit code.

    With one it is `run_service`. With more, this process starts `command` (which comes here again) once per worker and
    serves the aggregated metrics; `build` runs in the workers only. Of its listeners, those marked `shared` are opened
    on the common port, `metrics_listener`'s on a private socket, others not at all.
    """
    hold_lifeline(os.environ)
    place = take_place(os.environ)
    if place is not None:
        return run_service(name, settings, build, frame=Frame(worker=place.index, place=place.listeners))
    if settings.proxy.workers == 1:
        return run_service(name, settings, build, warnings=warnings)
    # Each worker waits for load balancers and its requests itself; the parent waits for the workers.
    frame = Frame(min_drain_secs=0, busy_with="workers")
    return run_service(name, settings, Parent(settings, command).build, warnings=warnings, frame=frame)
