"""Standard streams that are closed, full or gone, with real pipes and processes."""

import os
import subprocess
import sys
import time

import pytest

from aisix_common.streams import PIECE_BYTES, write_line

from tests.support.full_pipe import full_pipe

CLOSED = """
import os, sys
for fd in map(int, sys.argv[1:]):
    os.close(fd)
from aisix_common.streams import open_closed_streams
open_closed_streams()
null = os.stat(os.devnull)
kept = [str(fd) for fd in range(3) if os.path.samestat(os.fstat(fd), null) and os.get_inheritable(fd)]
other = os.open(os.devnull, os.O_RDONLY)
sys.exit(int("".join(kept)) + 1000 * (other < 3))
"""


@pytest.mark.parametrize(("closed", "code"), [("1", 1), ("12", 12), ("012", 12), ("02", 2)])
def test_a_closed_stream_becomes_dev_null(closed: str, code: int) -> None:
    run = subprocess.run(
        [sys.executable, "-c", CLOSED, *closed], stdin=subprocess.PIPE, capture_output=True, timeout=30, check=False
    )
    assert run.returncode == code, "the null device is on these and no others, and nothing else gets their numbers"


def test_a_full_pipe_takes_nothing_and_holds_nobody_up() -> None:
    with full_pipe() as (_, write_end):
        begun = time.monotonic()
        write_line(write_end, "x" * 100_000)
        assert time.monotonic() - begun < 5


def test_a_long_line_goes_as_far_as_it_is_read() -> None:
    read_end, write_end = os.pipe()
    write_line(write_end, "é" * (PIECE_BYTES * 2) + "\udc80")
    os.close(write_end)
    with os.fdopen(read_end, "rb") as reader:
        assert reader.read().decode() == "é" * (PIECE_BYTES * 2) + "\\udc80\n"


@pytest.mark.parametrize("fd", [-1, 987_654])
def test_nobody_is_there(fd: int) -> None:
    write_line(fd, "into the void")
