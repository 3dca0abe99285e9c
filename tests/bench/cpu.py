"""CPU time and memory of process trees. Linux: /proc."""

import os
import re
from pathlib import Path


def tree(pid: int) -> list[int]:
    """`pid` and all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue
            children.setdefault(int(stat.rsplit(")", 1)[1].split()[1]), []).append(int(entry))
    found, todo = [], [pid]
    while todo:
        current = todo.pop()
        found.append(current)
        todo += children.get(current, [])
    return found


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of all threads of `pids`, in seconds, to the nanosecond where the kernel has schedstat."""
    total = 0.0
    for pid in pids:
        for thread in _listdir(f"/proc/{pid}/task"):
            try:
                total += int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[0]) / 1e9
            except (OSError, IndexError):
                continue
    return total


def rss_megabytes(pids: list[int]) -> float:
    """Resident memory of `pids` together."""
    total = 0
    for pid in pids:
        try:
            total += int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0])
        except (OSError, IndexError):
            continue
    return total / 1024


def _listdir(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
