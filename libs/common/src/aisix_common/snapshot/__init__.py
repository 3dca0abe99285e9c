"""The immutable view of all resources at one revision, and the pure functions that make one (design 5, 6).

Knows rows and their kinds; knows nothing of etcd connections, files, clocks or what a row is good for.
"""

from .building import Pin, apply, build, reopened, restore
from .hashes import config_hash, source_hash
from .overlay import Overlay, Replace
from .tables import Entry, RejectedRow, Snapshot, Table, Touched, empty

__all__ = [
    "Entry",
    "Overlay",
    "Pin",
    "RejectedRow",
    "Replace",
    "Snapshot",
    "Table",
    "Touched",
    "apply",
    "build",
    "config_hash",
    "empty",
    "reopened",
    "restore",
    "source_hash",
]
