"""Which segments have to go."""

from pathlib import Path

import pytest

from aisix_proxy.managed.usage_bounds import excess
from aisix_proxy.managed.usage_stream import Segment

NONE = 1 << 63


def segment(stream: str, start: int, size: int, touched: float) -> Segment:
    return Segment(Path(f"/usage/{stream}/{start}.jsonl"), start, size, touched)


MINE = [segment("mine", start, 10, 100 + start) for start in (0, 10, 20)]
GONE = [segment("gone", start, 10, 95 + start) for start in (0, 10)]
OTHER = [segment("other", start, 10, 102 + start) for start in (0, 10)]


@pytest.mark.parametrize(
    ("segments", "most", "oldest", "gone"),
    [
        (MINE, 30, 0, []),
        (MINE, 29, 0, [("mine", 0, "journal_full")]),
        (MINE, 0, 0, [("mine", 0, "journal_full"), ("mine", 10, "journal_full")]),  # not what is written to
        (MINE, 99, 105, [("mine", 0, "expired")]),
        (MINE, 99, 999, [("mine", 0, "expired"), ("mine", 10, "expired")]),
        (MINE, 19, 101, [("mine", 0, "expired"), ("mine", 10, "journal_full")]),
        (MINE + GONE, 40, 0, [("gone", 0, "journal_full")]),  # the oldest of all
        (MINE + GONE, 30, 0, [("gone", 0, "journal_full"), ("mine", 0, "journal_full")]),
        (GONE, 0, 0, [("gone", 0, "journal_full"), ("gone", 10, "journal_full")]),  # nobody writes to it any more
        (OTHER, 0, 0, [("other", 0, "journal_full")]),  # somebody may
        ([*OTHER, *MINE], 40, 0, [("mine", 0, "journal_full")]),
        ([*OTHER, *MINE], 39, 0, [("mine", 0, "journal_full"), ("other", 0, "journal_full")]),
        ([], 0, 0, []),
    ],
)
def test_the_oldest_go_first(
    segments: list[Segment], most: int, oldest: float, gone: list[tuple[str, int, str]]
) -> None:
    found = excess(segments, {"mine": 20, "gone": NONE}, oldest=oldest, most_bytes=most)
    assert [(one.segment.stream, one.segment.start, one.loss) for one in found] == gone
