"""A job's frame for tests: what it said, and time that costs nothing."""

import time
from dataclasses import dataclass, field

import pytest

from aisix_common.install.progress import Job


@dataclass
class Told:
    """What a job said, and how long it slept."""

    lines: list[str] = field(default_factory=list)
    slept: float = 0.0

    def job(self, seconds: float = 30.0) -> Job:
        """A job of that much time; sleeping takes none, but counts."""
        begun = time.monotonic()
        return Job(self.lines.append, begun + seconds, lambda: time.monotonic() + self.slept, self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.slept += seconds


@pytest.fixture
def told() -> Told:
    return Told()
