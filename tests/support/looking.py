"""What can be seen of a process from outside, on Linux: its sockets, its open files, its memory."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_LISTEN = "0A"


@dataclass(frozen=True, slots=True)
class Socket:
    """A TCP socket; ports only, all of it is on loopback. `listening`: the remote port is 0."""

    local: int
    remote: int
    listening: bool


def sockets(pid: int) -> list[Socket]:
    """The TCP sockets of a process."""
    inodes = set()
    for link in _links(pid):
        if match := re.fullmatch(r"socket:\[(\d+)\]", link):
            inodes.add(match[1])
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes:
                local, remote = (int(text.rpartition(":")[2], 16) for text in fields[1:3])
                found.append(Socket(local, remote, fields[3] == _LISTEN))
    return found


def files(pid: int) -> list[str]:
    """Paths of the files that a process has open."""
    return [link for link in _links(pid) if link.startswith("/")]


def holds(pid: int, needle: bytes) -> bool:
    """Whether the memory or the environment of a process contains these bytes."""
    if needle in Path(f"/proc/{pid}/environ").read_bytes():
        return True
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for start, end in _readable(pid):
            try:
                memory.seek(start)
                if needle in memory.read(end - start):
                    return True
            except OSError:
                continue  # a mapping that went away, or of a device
    return False


def _links(pid: int) -> Iterator[str]:
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            yield os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue  # closed meanwhile


def _readable(pid: int) -> Iterator[tuple[int, int]]:
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, mode = line.split()[:2]
        if mode.startswith("rw") and "[vvar]" not in line:
            start, end = (int(text, 16) for text in span.split("-"))
            yield start, end
