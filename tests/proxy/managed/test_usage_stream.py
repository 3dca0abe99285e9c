"""What lies on disk of a stream, and how it is read."""

import os
from pathlib import Path

import pytest

from aisix_common.managed.outbox import MOST_BYTES
from aisix_proxy.managed.usage_stream import (
    LOCK,
    Piece,
    Written,
    claim,
    delete_shipped,
    events_behind,
    note_shipped,
    read,
    remove,
    segment_path,
    segments,
    shipped,
)

from tests.proxy.managed.events import line, numbers


def lay(folder: Path, *texts: bytes) -> list[int]:
    """Segments with these texts, one behind the other; where each begins, and where the last ends."""
    starts = [0]
    for text in texts:
        segment_path(folder, starts[-1]).write_bytes(text)
        starts.append(starts[-1] + len(text))
    return starts


def lines(*numbers: int) -> bytes:
    return b"".join(line(number) + b"\n" for number in numbers)


def everything(folder: Path, written: Written | None = None) -> tuple[list[int], int, int]:
    """The numbers of all events, where it ended, and what was torn."""
    found: list[int] = []
    at = torn = 0
    while (piece := read(folder, at, written)).end > at:
        found += numbers(piece.events)
        at, torn = piece.end, torn + piece.torn
    return found, at, torn


def test_a_stream_is_read_in_order_a_segment_at_a_time(tmp_path: Path) -> None:
    starts = lay(tmp_path, lines(1, 2), lines(3))
    first = read(tmp_path, 0, None)
    assert (numbers(first.events), first.end, first.whole) == ([1, 2], starts[1], True)
    second = read(tmp_path, first.end, None)
    assert (numbers(second.events), second.end) == ([3], starts[2])
    assert read(tmp_path, second.end, None) == Piece((), second.end)
    assert numbers(read(tmp_path, len(line(1)) + 1, None).events) == [2]


def test_a_batch_has_a_hundred_events_or_half_a_megabyte(tmp_path: Path) -> None:
    lay(tmp_path, lines(*range(250)))
    piece = read(tmp_path, 0, None)
    assert (len(piece.events), piece.whole) == (100, True)
    assert everything(tmp_path)[0] == list(range(250))
    large = tmp_path / "large"
    large.mkdir()
    lay(large, b"".join(line(n, error_message="x" * 40_000) + b"\n" for n in range(20)))
    piece = read(large, 0, None)
    assert sum(map(len, piece.events)) <= MOST_BYTES
    assert len(piece.events) > 10
    assert everything(large)[0] == list(range(20))


def test_of_a_stream_that_is_written_only_whole_events_are_read_and_a_small_batch_may_grow(tmp_path: Path) -> None:
    starts = lay(tmp_path, lines(1), lines(2, 3))
    written = Written(starts[1], starts[1] + len(lines(2)))
    assert read(tmp_path, 0, written).whole, "nothing comes to a segment that is over"
    piece = read(tmp_path, starts[1], written)
    assert (numbers(piece.events), piece.whole) == ([2], False)
    assert read(tmp_path, written.end, written) == Piece((), written.end)
    half = Written(starts[1], written.end + 5)  # a write that failed, and could not be taken back yet
    assert read(tmp_path, written.end, half) == Piece((), written.end)


@pytest.mark.parametrize(
    ("left", "found", "torn"),
    [
        (lines(1, 2)[:-1], [1], 1),  # the last byte alone is missing: it may be anything
        (lines(1, 2)[:-40], [1], 1),
        (lines(1) + bytes(300), [1], 1),  # the file had grown, its blocks were never written
        (lines(1) + bytes(300) + b"\n" + lines(2), [1, 2], 1),
        (lines(1) + b"[1]\n{}x\n" + lines(2), [1, 2], 2),
        (bytes(2 * MOST_BYTES), [], 2),
        (b"", [], 0),
    ],
)
def test_what_the_machine_left_torn_is_left_out_and_counted(
    tmp_path: Path, left: bytes, found: list[int], torn: int
) -> None:
    end = lay(tmp_path, left, lines(7))[-1]
    assert everything(tmp_path) == ([*found, 7], end, torn)


def test_what_others_put_there_is_no_segment(tmp_path: Path) -> None:
    lay(tmp_path, lines(1))
    for name in ("x.jsonl", "1.json", "-1.jsonl", "1"):
        (tmp_path / name).write_bytes(lines(9))
    assert [segment.start for segment in segments(tmp_path)] == [0]
    assert segments(tmp_path / "none") == []


def test_events_behind_a_position(tmp_path: Path) -> None:
    starts = lay(tmp_path, lines(1), lines(2, 3, 4))
    second = segments(tmp_path)[1]
    assert [events_behind(second, at) for at in (0, starts[1], starts[1] + len(lines(2)), starts[2])] == [3, 3, 2, 0]


def test_how_far_it_was_shipped_is_remembered(tmp_path: Path) -> None:
    assert shipped(tmp_path) == 0
    for position in (5, 123_456_789_012, 7):
        note_shipped(tmp_path, position)
        assert shipped(tmp_path) == position
    assert (tmp_path / "shipped").stat().st_mode & 0o777 == 0o600
    (tmp_path / "shipped").write_bytes(bytes(21))
    assert shipped(tmp_path) == 0


def test_what_was_shipped_is_deleted_but_for_what_is_written(tmp_path: Path) -> None:
    starts = lay(tmp_path, lines(1), lines(2), lines(3))
    delete_shipped(tmp_path, starts[2] - 1, Written(starts[2], starts[3]))
    assert [segment.start for segment in segments(tmp_path)] == starts[1:3]
    delete_shipped(tmp_path, starts[3], Written(starts[2], starts[3]))
    assert [segment.start for segment in segments(tmp_path)] == starts[2:3]


def test_a_stream_is_removed_at_its_end_only(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    starts = lay(folder, lines(1), lines(2))
    (folder / LOCK).touch()
    note_shipped(folder, starts[1])
    remove(folder, starts[1])
    assert sorted(os.listdir(folder)) == [segment_path(folder, starts[1]).name, LOCK, "shipped"]
    remove(folder, starts[2])
    assert not folder.exists()


def test_a_stream_is_held_by_one(tmp_path: Path) -> None:
    assert claim(tmp_path) is None, "without a lock it is no stream"
    assert claim(tmp_path / "none", make=True) is None
    mine = claim(tmp_path, make=True)
    assert mine is not None
    assert claim(tmp_path) is None
    mine.close()
    mine.close()
    again = claim(tmp_path)
    assert again is not None
    again.close()


def test_a_lock_on_a_stream_that_is_being_removed_is_worth_nothing(tmp_path: Path) -> None:
    removed = claim(tmp_path, make=True)
    assert removed is not None
    (tmp_path / LOCK).unlink()
    other = claim(tmp_path, make=True)
    assert other is not None, "it is a new one"
    other.close()
    removed.close()
