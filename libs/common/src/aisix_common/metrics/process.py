"""What the kernel says of this process, under the names every Prometheus client uses."""

import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from time import time
from typing import Final

from .families import Family, Kind, MergeRule, Sample

_PROC: Final = Path("/proc/self")
_BOOT: Final = Path("/proc/stat")


class ProcessMetrics:
    """Reads `process_cpu_seconds_total`, `_resident_memory_bytes`, `_open_fds`, `_max_fds`, `_start_time_seconds`."""

    def __init__(self) -> None:
        self._started = _start_time()

    def collect(self) -> list[Family]:
        """The numbers now; a number this system does not tell is left out."""
        return list(self._families())

    def _families(self) -> Iterator[Family]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        cpu = usage.ru_utime + usage.ru_stime
        yield _family("process_cpu_seconds_total", "User and system CPU time spent, in seconds.", "counter", cpu)
        resident = _resident_bytes()
        if resident is not None:
            yield _family("process_resident_memory_bytes", "Resident memory, in bytes.", "gauge", resident)
        open_fds = _open_fds()
        if open_fds is not None:
            yield _family("process_open_fds", "Open file descriptors.", "gauge", open_fds)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        yield _family("process_max_fds", "Limit of open file descriptors of one process.", "gauge", limit, "min")
        started = "Start of the process since the epoch, in seconds; of the oldest where there are several."
        yield _family("process_start_time_seconds", started, "gauge", self._started, "min")


def _family(name: str, help: str, kind: Kind, value: float, merge: MergeRule = "sum") -> Family:
    return Family(name, help, kind, samples=(Sample((), value),), merge=merge)


def _start_time() -> float:
    """When this process started; where the system does not tell, now (this is made at start)."""
    try:
        boot = next(line for line in _BOOT.read_text().splitlines() if line.startswith("btime "))
        # The command in field 2 may hold spaces and brackets: count fields after its last bracket.
        ticks = (_PROC / "stat").read_text().rpartition(")")[2].split()[19]
        return float(boot.split()[1]) + int(ticks) / os.sysconf("SC_CLK_TCK")
    except (OSError, StopIteration, ValueError, IndexError):
        return time()


def _resident_bytes() -> int | None:
    try:
        return int((_PROC / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        if sys.platform == "darwin":  # the highest it ever was, which is what that system tells
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return None


def _open_fds() -> int | None:
    for folder in (_PROC / "fd", Path("/dev/fd")):
        try:
            return len(os.listdir(folder)) - 1  # without the one that lists
        except OSError:
            continue
    return None
