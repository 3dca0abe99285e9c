"""A stream of usage events on disk: one journal of one process, in a folder of its own. For a thread: all of it blocks.

    <managed.usage.folder>/<stream>/
        <position>.jsonl    a segment: events as JSON lines; its name is the position in the stream that it begins at
        shipped             the position up to which events have reached the outbox
        lock                held (flock) by whoever writes or ships the stream, for as long as that process lives

Positions count bytes from the beginning of the stream. They are never used twice, so that the number of a batch is the
position behind its last event. Only the last segment is ever written to; what was shipped is deleted.
"""

import fcntl
import os
import re
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from aisix_common.managed.outbox import MOST_BYTES, MOST_EVENTS

LOCK: Final = "lock"
SHIPPED: Final = "shipped"
_SUFFIX: Final = ".jsonl"
_DIGITS: Final = 20
_STREAM: Final = re.compile(r"[A-Za-z0-9-]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class Segment:
    """One file of a stream."""

    path: Path
    start: int
    size: int
    touched: float
    """When it was last written to, in seconds of wall time."""

    @property
    def end(self) -> int:
        return self.start + self.size

    @property
    def stream(self) -> str:
        return self.path.parent.name


@dataclass(frozen=True, slots=True)
class Written:
    """How far a journal that is being written has come."""

    segment: int
    """Where the segment begins that is written to."""
    end: int
    """Behind its last whole event."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The next events of a stream, as many as go into one batch and lie in one segment."""

    events: tuple[bytes, ...]
    end: int
    """The position behind them; where there are none, that of what may be worth reading next."""
    torn: int = 0
    """What was left out, being no event."""
    whole: bool = False
    """Waiting would not make it larger."""


class Claim:
    """A stream that is ours, until this is closed or the process ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def close(self) -> None:
        """Give it up; idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def streams(folder: Path) -> list[Path]:
    """The folders of all streams in `folder`. Raises OSError."""
    try:
        with os.scandir(folder) as entries:
            return sorted(
                Path(entry.path)
                for entry in entries
                if entry.is_dir(follow_symlinks=False) and _STREAM.match(entry.name)
            )
    except FileNotFoundError:
        return []


def claim(folder: Path, *, make: bool = False) -> Claim | None:
    """Make the stream in `folder` ours; None when it is another's, or is none (any more). `make`: a new one, whose
    folder is there. Raises OSError."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if make else 0)
    try:
        descriptor = os.open(folder / LOCK, flags, 0o600)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever ships a stream to its end removes the lock too: one on a file that is gone is worth nothing.
        if os.path.samestat(os.fstat(descriptor), os.stat(folder / LOCK)):
            return Claim(descriptor)
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def segment_path(folder: Path, start: int) -> Path:
    """The file of the segment that begins at `start`."""
    return folder / f"{start:0{_DIGITS}d}{_SUFFIX}"


def segments(folder: Path) -> list[Segment]:
    """Those of a stream, in order. What goes away meanwhile is left out. Raises OSError."""
    found = []
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            number, suffix = os.path.splitext(entry.name)
            if suffix == _SUFFIX and number.isascii() and number.isdigit():
                with suppress(FileNotFoundError):
                    seen = entry.stat(follow_symlinks=False)
                    found.append(Segment(Path(entry.path), int(number), seen.st_size, seen.st_mtime))
    return sorted(found, key=lambda segment: segment.start)


def read(folder: Path, at: int, written: Written | None, most: int = MOST_EVENTS) -> Piece:
    """The events from position `at` on, `most` of them at most. `written`: of a journal at work; None: nobody writes to
    it any more, and what the machine left of it when it went down is looked at closely. Raises OSError."""
    for segment in segments(folder):
        end = segment.end if written is None else min(segment.end, written.end)
        if end > at:
            break
    else:
        return Piece((), at)
    growing = written is not None and segment.start >= written.segment
    begin = max(at, segment.start)
    with segment.path.open("rb") as file:
        file.seek(begin - segment.start)
        text = file.read(min(end - begin, MOST_BYTES))
    lines = text.split(b"\n")
    tail = lines.pop()
    if not lines:
        return Piece((), at) if growing else Piece((), begin + max(len(tail), 1), torn=1)
    del lines[most:]
    behind = begin + sum(map(len, lines)) + len(lines)
    whole = not growing or len(lines) == most or len(text) == MOST_BYTES
    events = tuple(lines) if written is not None else tuple(filter(_sound, lines))
    return Piece(events, behind, len(lines) - len(events), whole)


def events_behind(segment: Segment, at: int) -> int:
    """How many events of a segment lie behind position `at`. Raises OSError."""
    with segment.path.open("rb") as file:
        file.seek(max(0, at - segment.start))
        return sum(part.count(b"\n") for part in iter(lambda: file.read(1 << 20), b""))


def shipped(folder: Path) -> int:
    """The position up to which the stream was shipped; 0 where that cannot be read: then events are shipped again."""
    try:
        text = (folder / SHIPPED).read_bytes()[: _DIGITS + 1].strip()
    except OSError:
        return 0
    return int(text) if text.isdigit() else 0


def note_shipped(folder: Path, position: int) -> None:
    """Remember it. In place and in one write: a full disk does not mind, and a kill leaves the old or the new. Raises
    OSError."""
    descriptor = os.open(folder / SHIPPED, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(descriptor, b"%0*d\n" % (_DIGITS, position), 0)
    finally:
        os.close(descriptor)


def delete_shipped(folder: Path, position: int, written: Written | None) -> None:
    """Delete the segments that end before or at `position`, but for the one that is written to. Raises OSError."""
    for segment in segments(folder):
        if segment.end <= position and (written is None or segment.start < written.segment):
            segment.path.unlink(missing_ok=True)


def remove(folder: Path, position: int) -> None:
    """Remove a stream that is ours and was shipped up to `position`, its end; else only what was. Raises OSError."""
    delete_shipped(folder, position, None)
    if not segments(folder):
        (folder / SHIPPED).unlink(missing_ok=True)
        (folder / LOCK).unlink(missing_ok=True)
        folder.rmdir()


def free(folder: Path) -> bool:
    """Whether nobody holds the stream: its process is gone. One that cannot be had is somebody's."""
    try:
        ours = claim(folder)
    except OSError:
        return False
    if ours is not None:
        ours.close()
    return ours is not None


def drop(segment: Segment) -> int:
    """Delete a segment of a stream that nobody holds, and with the last one the stream; how many events are lost by
    that: none, where somebody was quicker. Raises OSError."""
    folder = segment.path.parent
    ours = claim(folder)
    if ours is None:
        return 0
    with closing(ours):
        try:
            events = events_behind(segment, shipped(folder))
        except FileNotFoundError:
            return 0
        segment.path.unlink(missing_ok=True)
        with suppress(OSError):  # something else lies there
            remove(folder, 0)
        return events


def _sound(line: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(line), dict)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
