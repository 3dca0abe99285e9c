"""Errors that the services share. Each service has its own tree for its own surface.

    AisixError
      ConfigurationError     settings or a command line that cannot work; carries every problem found
      StoreError             etcd
        StoreUnavailable     not reached, or no answer before the deadline: try again
        StoreDenied          user, password, certificate or role refused
        StoreRejected        etcd understood and refused (too large, quota full, bad lease)
        Compacted            the revision asked for is gone: list again

No message of any of them carries a secret: they are shown to operators and logged as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a document: where (dotted path, `[n]` for list items, `""` for the whole) and which rule."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.path else self.reason


class AisixError(Exception):
    """Root of every error of ours."""


class ConfigurationError(AisixError):
    """What was configured cannot work. `problems` lists all that was found, at once."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(map(str, self.problems)))


class StoreError(AisixError):
    """Something between us and etcd went wrong."""


class StoreUnavailable(StoreError):
    """etcd was not reached, has no leader, or did not answer before the deadline."""


class StoreDenied(StoreError):
    """etcd refused our identity or our role."""


class StoreRejected(StoreError):
    """etcd understood the request and refused it."""


class Compacted(StoreError):
    """The revision asked for was compacted away."""

    def __init__(self, compact_revision: int) -> None:
        self.compact_revision = compact_revision
        super().__init__(f"etcd compacted everything before revision {compact_revision}")
