"""One thread that writes log lines, so that nobody who logs ever waits for a slow reader of the output."""

from typing import Any


class LogWriter:
    """The only writer of log lines in a process; lines are written whole, in batches."""

    @property
    def dropped(self) -> int:
        """Lines lost because the queue was full or the output was gone: `aisix_log_lines_dropped_total`."""
        raise NotImplementedError

    def record(self, fields: dict[str, Any]) -> None:
        """Queue one line of JSON-able `fields` (with its `event` text among them); the writer owns the dict from now on.

        Time, level `info`, service and worker are added. Costs the caller under a microsecond; never blocks, never
        raises: when the queue is full the line is counted and lost.
        """
        raise NotImplementedError

    def flush(self, timeout: float = 2.0) -> bool:
        """Block until everything queued so far is written, `timeout` seconds at most; whether it was."""
        raise NotImplementedError

    def close(self) -> None:
        """Write what is queued and end the thread; later lines are written straight by their caller. Idempotent."""
        raise NotImplementedError
