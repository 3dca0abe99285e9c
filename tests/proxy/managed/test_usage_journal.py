"""The journal: what was recorded is on disk at once, and a disk that fails holds nobody up."""

import errno
import os
import shutil
import stat
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from aisix_common.managed.outbox import MOST_BYTES
from aisix_proxy.managed.usage_journal import MOST_HELD_BYTES, SEGMENT_SECONDS, UsageJournal
from aisix_proxy.managed.usage_stream import claim, read, segments

from tests.proxy.managed.events import Counted, fill, journal_in, line, numbers, usage_event


class Disk:
    """`os.write` that may be told to fail: `room` is how many bytes are left, None: enough."""

    def __init__(self) -> None:
        self.room: int | None = None
        self.writes = 0

    def write(self, descriptor: int, data: bytes) -> int:
        self.writes += 1
        if self.room is None:
            return os.write(descriptor, data)
        part = data[: self.room]
        self.room -= len(part)
        if not part:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(descriptor, part)


class Now:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def on_disk(journal: UsageJournal) -> list[int]:
    found: list[int] = []
    at = 0
    while (piece := read(journal.folder, at, journal.written)).end > at:
        assert not piece.torn
        found += numbers(piece.events)
        at = piece.end
    return found


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_an_event_is_one_line_on_disk_when_record_returns(tmp_path: Path) -> None:
    counted = Counted()
    journal = journal_in(tmp_path / "usage", counted)
    journal.record(usage_event(1, error_message="a\nb"))
    journal.record(usage_event(2))
    (segment,) = segments(journal.folder)
    assert segment.path.read_bytes() == line(1, error_message="a\nb") + b"\n" + line(2) + b"\n"
    assert (journal.written.segment, journal.written.end) == (0, segment.size)
    assert [mode(path) for path in (tmp_path / "usage", journal.folder, segment.path)] == [0o700, 0o700, 0o600]
    assert counted.value("aisix_usage_journal_events_total") == 2
    assert claim(journal.folder) is None, "it is held"
    journal.close()
    mine = claim(journal.folder)
    assert mine is not None
    mine.close()


def test_segments_follow_each_other_and_are_named_by_where_they_begin(tmp_path: Path) -> None:
    journal = journal_in(tmp_path, most_bytes=1)  # the smallest segments
    fill(journal, 1000)
    found = segments(journal.folder)
    assert len(found) > 2
    assert [one.end for one in found[:-1]] == [one.start for one in found[1:]]
    assert on_disk(journal) == list(range(1000))
    journal.close()


def test_an_old_segment_is_not_added_to(tmp_path: Path) -> None:
    now = Now()
    journal = journal_in(tmp_path, monotonic=now)
    journal.tend()
    now.seconds += SEGMENT_SECONDS
    journal.tend()
    assert len(segments(journal.folder)) == 1, "nothing in it is old"
    fill(journal, 1)
    now.seconds += SEGMENT_SECONDS
    journal.tend()
    journal.tend()
    assert [one.size > 0 for one in segments(journal.folder)] == [True, False]
    journal.close()


def test_a_whole_batch_is_told_of(tmp_path: Path) -> None:
    journal = journal_in(tmp_path)
    fill(journal, 99)
    assert not journal.full.is_set()
    fill(journal, 1)
    assert journal.full.is_set()
    journal.close()


@pytest.mark.parametrize("room", [0, 1, 100])
def test_while_the_disk_is_full_events_wait_in_memory_and_nothing_is_torn(tmp_path: Path, room: int) -> None:
    counted, disk = Counted(), Disk()
    journal = journal_in(tmp_path, counted, write=disk.write)
    fill(journal, 3)
    disk.room = room
    with capture_logs() as told:
        fill(journal, 50, 3)
        journal.tend()
        journal.tend()
        assert on_disk(journal) == [0, 1, 2]
        assert disk.writes <= 3 + 2 + 2, "a disk that is full is not tried for every event"
        disk.room = None
        fill(journal, 1, 53)
        journal.tend()
        fill(journal, 1, 54)
    assert on_disk(journal) == list(range(55))
    assert [(line["log_level"], line.get("setting")) for line in told] == [
        ("error", "managed.usage.folder"),
        ("info", None),
    ]
    assert counted.dropped() == {}
    journal.close()


def test_what_memory_does_not_hold_either_is_lost_and_counted(tmp_path: Path) -> None:
    counted, disk = Counted(), Disk()
    journal = journal_in(tmp_path, counted, write=disk.write)
    disk.room = 0
    size = len(line(1000, error_message="x" * 100_000)) + 1
    kept = MOST_HELD_BYTES // size
    fill(journal, kept + 5, 1000, error_message="x" * 100_000)
    disk.room = None
    with capture_logs() as told:
        journal.tend()
    assert on_disk(journal) == list(range(1005, 1005 + kept)), "the oldest are lost"
    assert counted.dropped() == {"journal_failed": 5}
    assert told[-1]["lost"] == 5
    journal.close()


def test_a_write_that_failed_and_cannot_be_taken_back_is_left_behind(tmp_path: Path) -> None:
    counted = Counted()
    pipe_in, pipe_out = os.pipe()

    def write(descriptor: int, data: bytes) -> int:
        if not broken:
            return os.write(descriptor, data)
        os.write(descriptor, data[:10])
        os.dup2(pipe_out, descriptor)  # what is behind the descriptor cannot be cut
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    broken = False
    journal = journal_in(tmp_path, counted, write=write)
    fill(journal, 2)
    broken = True
    fill(journal, 1, 2)
    broken = False
    journal.tend()
    fill(journal, 1, 3)
    found, at, torn = [], 0, 0
    while (piece := read(journal.folder, at, journal.written)).end > at:
        found += numbers(piece.events)
        at, torn = piece.end, torn + piece.torn
    assert (found, torn, at) == ([0, 1, 2, 3], 1, journal.written.end)
    journal.close()
    os.close(pipe_in)
    os.close(pipe_out)


def test_a_folder_that_cannot_be_made_is_tried_again(tmp_path: Path) -> None:
    counted = Counted()
    (tmp_path / "usage").write_text("a file in its place")
    journal = journal_in(tmp_path / "usage", counted)
    with capture_logs() as told:
        fill(journal, 5)
        journal.tend()
        (tmp_path / "usage").unlink()
        journal.tend()
        fill(journal, 1, 5)
    assert on_disk(journal) == list(range(6))
    assert [line["log_level"] for line in told] == ["error", "info"]
    assert told[0]["reason"] == "File exists"
    journal.close()


def test_a_folder_that_somebody_emptied_is_made_again(tmp_path: Path) -> None:
    journal = journal_in(tmp_path)
    fill(journal, 2)
    end = journal.written.end
    shutil.rmtree(journal.folder)
    journal.tend()
    fill(journal, 1, 2)
    assert on_disk(journal) == [2]
    assert segments(journal.folder)[0].start == end, "no position is used twice"
    assert claim(journal.folder) is None
    journal.close()


def test_text_that_is_none_costs_no_event(tmp_path: Path) -> None:
    counted = Counted()
    journal = journal_in(tmp_path, counted)
    journal.record(usage_event(1, client_user_agent="a\udcffb"))
    assert on_disk(journal) == [1]
    journal.record(usage_event(2, error_message="x" * MOST_BYTES))
    assert on_disk(journal) == [1]
    assert counted.dropped() == {"journal_failed": 1}
    journal.close()


def test_after_its_end_nothing_is_recorded_and_that_is_counted(tmp_path: Path) -> None:
    counted = Counted()
    journal = journal_in(tmp_path, counted)
    fill(journal, 1)
    journal.close()
    journal.close()
    fill(journal, 2)
    journal.tend()
    assert counted.dropped() == {"journal_failed": 2}
    assert [segment.size for segment in segments(journal.folder)] == [len(line(0)) + 1]


def test_what_waits_in_memory_is_counted_as_lost_in_the_end(tmp_path: Path) -> None:
    counted, disk = Counted(), Disk()
    journal = journal_in(tmp_path, counted, write=disk.write)
    disk.room = 0
    fill(journal, 3)
    journal.close()
    assert counted.dropped() == {"journal_failed": 3}


def test_what_was_written_is_handed_out_to_be_synced_once(tmp_path: Path) -> None:
    journal = journal_in(tmp_path, most_bytes=1)
    assert journal.unsynced() == []
    fill(journal, 1)
    (descriptor,) = journal.unsynced()
    assert journal.unsynced() == []
    os.close(descriptor)
    fill(journal, 1000)
    found = journal.unsynced()
    paths = {os.readlink(f"/proc/self/fd/{descriptor}") for descriptor in found}
    assert paths == {str(segment.path) for segment in segments(journal.folder)}
    for descriptor in found:
        os.close(descriptor)
    journal.close()


@pytest.mark.parametrize(
    ("most_bytes", "segment_bytes"),
    [(1, 64 << 10), (1 << 20, 128 << 10), (1 << 30, 4 << 20), (4 << 30, 16 << 20), (1 << 40, 64 << 20)],
)
def test_the_more_may_wait_the_larger_the_segments(tmp_path: Path, most_bytes: int, segment_bytes: int) -> None:
    journal = journal_in(tmp_path, most_bytes=most_bytes, write=lambda fd, lines: len(lines))
    size = len(line(0, error_message="x" * 30_000)) + 1
    count = segment_bytes // size - 1
    fill(journal, count, error_message="x" * 30_000)
    assert journal.written.segment == 0
    fill(journal, 3, error_message="x" * 30_000)
    assert journal.written.segment > 0
    journal.close()
