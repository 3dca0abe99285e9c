"""Which part of a fleet this process is: the whole service, a worker, or the parent of workers."""

from collections.abc import Sequence

from ..processes import Command
from ..service import Build
from ..settings import Settings


def run_workers(name: str, settings: Settings, build: Build, *, command: Command, warnings: Sequence[str] = ()) -> int:
    """Run a service in `settings.proxy.workers` processes and give the exit code.

    With one it is `run_service`. With more, this process starts `command` (which comes here again) once per worker and
    serves the aggregated metrics; `build` runs in the workers only.
    """
    raise NotImplementedError
