"""How each model's upstream is doing, by consecutive failures (data-plane 6.7). Reporting only: nothing is routed by it yet.

Counts are kept by display name, in this process. The map is bounded by `forget`, which the compiler calls with the
names that still exist.
"""

from collections.abc import Container
from typing import Final

DEGRADED_AFTER: Final = 4
DOWN_AFTER: Final = 8


class ModelHealth:
    """Counts consecutive upstream failures."""

    def __init__(self) -> None:
        self._failures: dict[str, int] = {}
        self.changes = 0
        """Grows whenever some model's level changes, so that whoever publishes levels knows when to."""

    def succeeded(self, name: str) -> None:
        if self._failures and self._failures.pop(name, 0) >= DEGRADED_AFTER:
            self.changes += 1

    def failed(self, name: str) -> None:
        failures = self._failures.get(name, 0) + 1
        self._failures[name] = failures
        if failures in (DEGRADED_AFTER, DOWN_AFTER):
            self.changes += 1

    def level(self, name: str) -> int:
        """0 healthy, 1 degraded, 2 down."""
        failures = self._failures.get(name, 0)
        return (failures >= DEGRADED_AFTER) + (failures >= DOWN_AFTER)

    def unhealthy(self) -> dict[str, int]:
        """Level by name, of all that are not healthy."""
        return {name: level for name in self._failures if (level := self.level(name))}

    def forget(self, names: Container[str]) -> None:
        """Drop what is counted for models that are not in `names`."""
        for name in [name for name in self._failures if name not in names]:
            del self._failures[name]
