"""Where usage events are safe: each is one line in a file before its exchange is over (design 9).

One write of the whole line for each event and no fsync: what the kernel has taken survives a kill of this process. The
machine's own end is another matter: `usage_shipping` has the file synced once a second, in a thread.

Belongs to the event loop; what lies on disk, and what else works on it, is `usage_stream`'s. A disk that does not take
events holds nobody up: they wait in memory, bounded, until it does.
"""

import asyncio
import errno
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from aisix_common.logs import Logger
from aisix_common.managed.outbox import MOST_BYTES, MOST_EVENTS
from aisix_common.service import new_request_id

from ..telemetry.usage_event import UsageEvent
from .usage_metrics import UsageMetrics
from .usage_stream import Claim, Written, claim, segment_path

SEGMENT_BYTES: Final = 4 << 20
SMALLEST_SEGMENT: Final = 64 << 10
LARGEST_SEGMENT: Final = 64 << 20
_MOST_SEGMENTS: Final = 256
"""That a full folder should have: each batch that is shipped looks at all of them."""
SEGMENT_SECONDS: Final = 3600.0
"""A segment that is older is not added to: events go out of date by segments."""
MOST_HELD_BYTES: Final = 8 << 20
"""Of events that wait in memory for the disk; beyond that the oldest are lost."""
_AT_ONCE: Final = 256 << 10
"""Bytes of them that are written at once."""
_MOST_RETIRED: Final = 4


class UsageJournal:
    """A stream of this process. The first event, or `tend`, makes its folder; `close` leaves the events to whoever
    ships them next."""

    def __init__(
        self,
        folder: Path,
        metrics: UsageMetrics,
        log: Logger,
        *,
        most_bytes: int = 1 << 30,
        most_seconds: float = 7 * 86_400.0,
        monotonic: Callable[[], float] = time.monotonic,
        write: Callable[[int, bytes], int] = os.write,
    ) -> None:
        """`folder` is that of all journals, `most_bytes` and `most_seconds` their bounds: segments are small parts of
        either."""
        self.stream: Final = new_request_id()
        self.folder: Final = folder / self.stream
        self.full = asyncio.Event()
        """Set when a batch of events has come since it was set last."""
        self._metrics = metrics
        self._log = log
        large = min(max(SEGMENT_BYTES, most_bytes // _MOST_SEGMENTS), LARGEST_SEGMENT)
        self._segment_bytes = min(large, max(SMALLEST_SEGMENT, most_bytes // 8))
        self._segment_seconds = min(SEGMENT_SECONDS, most_seconds / 4)
        self._monotonic = monotonic
        self._write_to = write
        self._encode = msgspec.json.Encoder().encode
        self._claim: Claim | None = None
        self._fd = -1
        self._start = 0
        self._end = 0
        self._begun = 0.0
        self._news = 0
        self._synced = 0
        self._retired: list[int] = []
        """Descriptors of segments that are written to no more, and were not synced yet."""
        self._held: deque[bytes] = deque()
        self._held_bytes = 0
        self._failed = False
        self._lost = 0
        self._closed = False

    @property
    def written(self) -> Written:
        """How far it has come."""
        return Written(self._start, self._end)

    def record(self, event: UsageEvent) -> None:
        """`UsageSink`: the event is on its way to the disk when this returns, or waits for it in memory."""
        self._metrics.recorded.add()
        try:
            line = self._encode(event) + b"\n"
        except UnicodeEncodeError:  # half a character, from a header
            line = _readable(event) + b"\n"
        if self._closed or len(line) > MOST_BYTES:
            self._lose()
            return
        if self._fd < 0 and not self._failed:
            self.tend()
        if self._failed:
            self._hold(line)
            return
        try:
            self._write(line)
        except OSError as error:
            self._hold(line)
            self._fail(error)
            return
        if self._end - self._start >= self._segment_bytes:
            self.tend()

    def tend(self) -> None:
        """To be called once a second: opens what could not be opened, writes what waits in memory, goes on to the next
        segment where it is time. Raises nothing."""
        if self._closed:
            return
        try:
            if self._fd >= 0 and not self._there():
                self._let_go()
            if self._fd < 0:
                self._open()
            self._write_held()
            size = self._end - self._start
            if size >= self._segment_bytes or (size and self._monotonic() - self._begun >= self._segment_seconds):
                self._begin()
        except OSError as error:
            self._fail(error)
        else:
            if self._failed:
                self._log.info("usage events are written to their journal again", lost=self._lost)
                self._failed, self._lost = False, 0

    def unsynced(self) -> list[int]:
        """Descriptors of what was written since this was called last, to be synced and closed by whoever asks."""
        found, self._retired = self._retired, []
        if self._fd >= 0 and self._end != self._synced:
            try:
                found.append(os.dup(self._fd))
                self._synced = self._end
            except OSError:
                pass  # out of descriptors: next time
        return found

    def close(self) -> None:
        """No more events: those that come are lost, and counted. Idempotent."""
        if self._held and not self._closed:
            self.tend()
            for _ in self._held:
                self._lose()
            self._held.clear()
        self._closed = True
        self._let_go()

    # -- inside -------------------------------------------------------------------------------------------------------

    def _write(self, lines: bytes) -> None:
        """Whole lines, all of them or none. Raises OSError."""
        try:
            done = self._write_to(self._fd, lines)
            if done != len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            self._cut_back(len(lines))
            raise
        self._end += done
        self._news += 1
        if self._news >= MOST_EVENTS:
            self._news = 0
            self.full.set()

    def _cut_back(self, attempted: int) -> None:
        """Take away what a failed write left. Where that cannot be done nothing is written behind it either."""
        try:
            os.ftruncate(self._fd, self._end - self._start)
        except OSError:
            self._end += attempted  # at most that much is there: the next segment's positions begin behind it
            self._let_go(claim_too=False)

    def _hold(self, line: bytes) -> None:
        self._held.append(line)
        self._held_bytes += len(line)
        while self._held_bytes > MOST_HELD_BYTES:
            self._held_bytes -= len(self._held.popleft())
            self._lose()

    def _write_held(self) -> None:
        while self._held:
            size = count = 0
            for line in self._held:
                if count and size + len(line) > _AT_ONCE:
                    break
                size, count = size + len(line), count + 1
            self._write(b"".join(line for line, _ in zip(self._held, range(count), strict=False)))
            for _ in range(count):
                self._held.popleft()
            self._held_bytes -= size
            self.full.set()

    def _lose(self) -> None:
        self._lost += 1
        self._metrics.dropped("journal_failed")

    def _fail(self, error: OSError) -> None:
        if not self._failed:
            self._log.error(
                "usage events cannot be written to their journal and wait in memory: make room, or see to the folder's "
                "rights",
                setting="managed.usage.folder",
                folder=str(self.folder.parent),
                reason=error.strerror or type(error).__name__,
            )
        self._failed = True

    def _open(self) -> None:
        """Folder, lock and segment. Raises OSError."""
        self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        if self._claim is None:
            self._claim = claim(self.folder, make=True)
        if self._claim is None:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        self._begin()

    def _begin(self) -> None:
        """The next segment. Raises OSError, and then all is as before."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(segment_path(self.folder, self._end), flags, 0o600)
        self._retire()
        self._fd, self._start, self._begun = fd, self._end, self._monotonic()

    def _retire(self) -> None:
        if self._fd >= 0 and len(self._retired) < _MOST_RETIRED:
            self._retired.append(self._fd)
        elif self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _there(self) -> bool:
        """Whether what we write to can still be found: somebody may have emptied the folder. Raises OSError."""
        try:
            return os.path.samestat(os.stat(segment_path(self.folder, self._start)), os.fstat(self._fd))
        except FileNotFoundError:
            return False

    def _let_go(self, *, claim_too: bool = True) -> None:
        for fd in (self._fd, *self._retired):
            if fd >= 0:
                os.close(fd)
        self._fd, self._retired = -1, []
        if claim_too and self._claim is not None:
            self._claim.close()
            self._claim = None


def _readable(event: UsageEvent) -> bytes:
    """As JSON, with question marks for what is no text."""
    fields = msgspec.structs.asdict(event)
    texts = {name: text.encode(errors="replace").decode() for name, text in fields.items() if isinstance(text, str)}
    return msgspec.json.encode(msgspec.structs.replace(event, **texts))
