"""One thread that writes log lines, so that nobody who logs ever waits for a slow reader of the output.

Lines are handed over as values and rendered in the thread, a batch at a time. A batch goes out in writes of at most
`ATOMIC` bytes that end at the end of a line: the kernel does not tear those apart when several processes share one
pipe, and a supervisor sees one line as one write.
"""

import atexit
import errno
import os
import select
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from time import time
from typing import Any, Final, TypeAlias

from .rendering import Line

ATOMIC: Final = 4096
"""Bytes of PIPE_BUF on Linux; more are not written in one piece."""
QUEUE_LINES: Final = 20_000
BATCH_LINES: Final = 500
"""This many wake the thread at once."""
BATCH_SECONDS: Final = 0.1
"""A line waits this long for others."""
IDLE_SECONDS: Final = 1.0
"""Without lines the thread looks this often whether it missed one: two threads that log at once may each leave the
waking to the other."""
STALLED_SECONDS: Final = 2.0
"""A line the output did not take for this long is lost, where the output says so instead of blocking."""

_Entry: TypeAlias = tuple[float, str, Mapping[str, Any]]


class LogWriter:
    """The only writer of log lines in a process; lines are written whole, in batches.

    `line` renders, `fd` takes the bytes. The thread starts with the writer and ends with `close`, or with the program,
    which waits for the last lines.
    """

    def __init__(self, line: Line, *, fd: int = 1, limit: int = QUEUE_LINES, records: bool = True) -> None:
        """`limit` bounds the queue, in lines; without `records` the lines of `record` are not wanted."""
        self._line = line
        self._records = records
        self._fd = fd
        self._limit = limit
        self._queue: deque[_Entry] = deque()
        self._filled = threading.Event()
        self._hurry = threading.Event()
        self._drained = threading.Condition()
        self._writing = False
        self._closed = False
        self._dropped = 0
        self._lost = 0
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @property
    def dropped(self) -> int:
        """Lines lost because the queue was full or the output was gone: `aisix_log_lines_dropped_total`."""
        return self._dropped + self._lost

    def record(self, fields: dict[str, Any]) -> None:
        """Queue one line of JSON-able `fields` (with its `event` text in them); the writer owns the dict from now on.

        Time, level `info`, service and worker are added. Costs the caller under a microsecond; never blocks, never
        raises: when the queue is full the line is counted and lost. Does nothing when the log level is above `info`.
        """
        if self._records:
            self.put("info", fields)

    def put(self, level: str, fields: Mapping[str, Any]) -> None:
        """As `record`, with a level."""
        queue = self._queue
        if len(queue) >= self._limit:
            self._dropped += 1
            return
        queue.append((time(), level, fields))
        waiting = len(queue)
        if self._closed:
            self._drain()
        elif waiting == 1:
            self._filled.set()
        elif waiting == BATCH_LINES:
            self._hurry.set()

    def flush(self, timeout: float = 2.0) -> bool:
        """Block until everything queued so far is written, `timeout` seconds at most; whether it was."""
        if self._closed:
            return not self._queue
        with self._drained:
            self._wake_up()
            return self._drained.wait_for(self._idle, timeout)

    def close(self) -> None:
        """Write what is queued and end the thread; later lines are written straight by their caller. Idempotent.

        Waits two seconds at most: an output nobody reads cannot keep the process alive.
        """
        if self._closed:
            return
        self._closed = True
        self._wake_up()
        self._thread.join(STALLED_SECONDS)
        atexit.unregister(self.close)

    def _idle(self) -> bool:
        return not self._queue and not self._writing

    def _wake_up(self) -> None:
        self._hurry.set()
        self._filled.set()

    def _run(self) -> None:
        while not self._closed:
            if self._filled.wait(IDLE_SECONDS):
                self._filled.clear()
                self._hurry.wait(BATCH_SECONDS)
                self._hurry.clear()
            self._drain()
        self._drain()

    def _drain(self) -> None:
        self._writing = True
        try:
            while self._queue:
                for chunk, lines in _chunks(self._rendered()):
                    if not self._write(chunk):
                        self._lost += lines
        finally:
            self._writing = False
            with self._drained:
                self._drained.notify_all()

    def _rendered(self) -> Iterator[bytes]:
        """Up to a batch of lines; a line that cannot be rendered is counted, and takes nothing else with it."""
        for _ in range(min(len(self._queue), BATCH_LINES)):
            try:
                entry = self._queue.popleft()
            except IndexError:
                return  # after `close` a caller and the thread may both be at it
            try:
                yield self._line(*entry)
            except Exception:  # noqa: BLE001 - whatever a value's __str__ does, the thread goes on
                self._lost += 1

    def _write(self, chunk: bytes) -> bool:
        """Write all of `chunk`; False when the output is gone or stalled."""
        view = memoryview(chunk)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                if not select.select([], [self._fd], [], STALLED_SECONDS)[1]:
                    return False
            except OSError as error:
                if error.errno != errno.EINTR:
                    return False
        return True


def _chunks(lines: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    """Whole lines joined to at most `ATOMIC` bytes, or one longer line alone; with the number of lines."""
    gathered: list[bytes] = []
    size = 0
    for line in lines:
        if gathered and size + len(line) > ATOMIC:
            yield b"".join(gathered), len(gathered)
            gathered, size = [], 0
        gathered.append(line)
        size += len(line)
    if gathered:
        yield b"".join(gathered), len(gathered)
