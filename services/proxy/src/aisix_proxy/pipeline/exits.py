"""What an exchange still owes: callbacks that run in reverse, exactly once, however the exchange ends.

Knows nothing of exchanges. Callbacks are plain functions: a task that is being cancelled cannot be trusted to await.
"""

from collections.abc import Callable

from aisix_common.logs import get_logger

_log = get_logger(__name__)


class Exits:
    """A stack of promises. A stage that takes something pushes its return in the same breath."""

    __slots__ = ("_callbacks",)

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []

    def push(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def close(self) -> None:
        """Run everything, last pushed first. One that fails is logged and does not keep the others from running."""
        callbacks, self._callbacks = self._callbacks, []
        while callbacks:
            try:
                callbacks.pop()()
            except Exception:  # noqa: BLE001 - one broken promise must not break the others
                _log.exception("an exchange could not settle everything it owed")
