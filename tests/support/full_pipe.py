"""A pipe that nobody reads and that takes no more."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def full_pipe() -> Iterator[tuple[int, int]]:
    """(read end, write end) of a pipe that is full; the write end blocks, as standard output does."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    for piece in (b"x" * 65536, b"x"):
        try:
            while True:
                os.write(write_end, piece)
        except BlockingIOError:
            pass
    os.set_blocking(write_end, True)
    try:
        yield read_end, write_end
    finally:
        os.close(read_end)
        os.close(write_end)
