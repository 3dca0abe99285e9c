"""How much may wait on disk: which segments have to go, the oldest first. Pure: given what lies there and what time it
is.

Several processes share a folder, and each stream is somebody's. All of them look at the whole folder and come to the
same list; each deletes what is its own.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .usage_metrics import Loss
from .usage_stream import Segment


@dataclass(frozen=True, slots=True)
class Excess:
    """A segment that has to go, and why."""

    segment: Segment
    loss: Loss


def excess(segments: Sequence[Segment], keep: Mapping[str, int], *, oldest: float, most_bytes: int) -> list[Excess]:
    """What has to go of all `segments` of a folder. `keep`: where the segment begins that a stream's journal writes to,
    of the streams that are known; the last of any other may be such a one. `oldest`: what was last written to before
    that (wall time) is out of date."""
    last = _last(segments)
    left = sum(segment.size for segment in segments)
    found = []
    for segment in sorted(segments, key=lambda segment: (segment.touched, segment.stream, segment.start)):
        if segment.start >= keep.get(segment.stream, last[segment.stream]):
            continue
        if segment.touched < oldest:
            found.append(Excess(segment, "expired"))
        elif left > most_bytes:
            found.append(Excess(segment, "journal_full"))
        else:
            continue
        left -= segment.size
    return found


def _last(segments: Iterable[Segment]) -> dict[str, int]:
    last: dict[str, int] = {}
    for segment in segments:
        last[segment.stream] = max(segment.start, last.get(segment.stream, 0))
    return last
