"""One thread beside the event loop where tokens are counted, and a bound on what waits for it.

Not the loop's own pool of threads: names are resolved there, and a thousand callers that leave at once must not hold
that up. Knows nothing of tokens or exchanges.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")

MOST_WAITING: Final = 64
"""Counts that may wait, the running one included."""
MOST_BYTES: Final = 16 << 20
"""Bytes of text that may wait: about 200 ms of counting."""


class Counter:
    """One per worker process. Its thread is begun by the first count, and ends with the process."""

    __slots__ = ("_bytes", "_thread", "_waiting")

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="count")
        self._waiting = 0
        self._bytes = 0

    def begin(self, count: Callable[[], T], size: int) -> "asyncio.Future[T] | None":
        """`count` in the thread, `size` being about the bytes of its text; None when too much is waiting already.

        Something is always taken when nothing waits, however large. To be called on the loop.
        """
        if self._waiting and (self._waiting >= MOST_WAITING or self._bytes + size > MOST_BYTES):
            return None
        self._waiting += 1
        self._bytes += size

        def over(_: object) -> None:
            self._waiting -= 1
            self._bytes -= size

        future = asyncio.get_running_loop().run_in_executor(self._thread, count)
        future.add_done_callback(over)
        return future
