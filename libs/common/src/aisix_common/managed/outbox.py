"""The outbox: batches of usage events on their way from the proxies through etcd to the Cloud (design 9).

    <run root>/outbox/<stream>/<number>    zlib of the events' JSON texts, joined by newlines

A stream is one journal of a proxy process: batches of one stream are delivered in the order of their numbers, and each
is deleted after the Cloud took it. Rows have no lease: a batch outlives the proxy that wrote it.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MOST_EVENTS: Final = 100
"""Of one batch, which is one call (control-plane 6.4)."""
MOST_BYTES: Final = 512 * 1024
"""Of the events of one batch, before compression. A single event is far smaller (its texts are cut)."""
MOST_VALUE: Final = 64 * 1024
"""Of a batch as it lies in etcd, unless it is a single event. A hundred usual events are a tenth of it; callers who
send what cannot be compressed make smaller batches."""
MOST_WAITING: Final = 1024
"""Batches of all streams together that wait in etcd, which is small and shared: 64 MiB at most (design 5). Streams that
look at the same time may go beyond it a little."""
_LEVEL: Final = 3
"""Of zlib: a seventh larger than its usual 6, for half of the time."""
_DIGITS: Final = 20


class DamagedBatch(ValueError):
    """A row that is no batch. Its text names nothing of what is in it."""


@dataclass(frozen=True, slots=True)
class BatchName:
    """Which batch it is."""

    stream: str
    """1 to 64 letters, digits and dashes."""
    number: int
    """Not negative; grows along a stream, not necessarily by one."""


def outbox_root(run_root: str) -> str:
    """Under which all batches lie, with its trailing slash."""
    return f"{run_root}/outbox/"


def stream_root(run_root: str, stream: str) -> str:
    """Under which those of one stream lie, with its trailing slash."""
    return f"{run_root}/outbox/{stream}/"


def batch_key(run_root: str, name: BatchName) -> str:
    """The key of a batch; sorts as its number does."""
    return f"{stream_root(run_root, name.stream)}{name.number:0{_DIGITS}d}"


def batch_name(run_root: str, key: str) -> BatchName | None:
    """Which batch lies at `key`; None for what is none."""
    stream, _, number = key.removeprefix(outbox_root(run_root)).partition("/")
    sound = key.startswith(outbox_root(run_root)) and stream and number.isascii() and number.isdigit()
    return BatchName(stream, int(number)) if sound and len(number) == _DIGITS else None


def packed(events: Sequence[bytes]) -> bytes:
    """A batch of the JSON texts of events (none with a newline in it)."""
    return zlib.compress(b"\n".join(events), _LEVEL)


def unpacked(value: bytes) -> list[bytes]:
    """The JSON texts of a batch, of whose insides nothing is known. Raises DamagedBatch; never inflates far more than a
    batch may hold."""
    inflating = zlib.decompressobj()
    try:
        text = inflating.decompress(value, 2 * MOST_BYTES)
    except zlib.error:
        raise DamagedBatch("is not compressed text") from None
    if not inflating.eof:
        raise DamagedBatch("is cut short, or too large")
    return [line for line in text.split(b"\n") if line]
