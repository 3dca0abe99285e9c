"""The standard streams as they may really be: closed when the process starts, full, or read by nobody.

Knows file descriptors only: no logs, no settings.
"""

import os
import select
from typing import Final

PIECE_BYTES: Final = 4096
"""What a pipe that is ready takes without blocking: PIPE_BUF of Linux."""
READY_SECONDS: Final = 0.25
"""How long somebody who has a line to say waits for a reader."""


def open_closed_streams() -> None:
    """Open /dev/null on each of the descriptors 0 to 2 that is closed; first thing in a `main`.

    Whatever is opened next would get that number otherwise, an event loop's or a store's socket for example, and then
    be written to as if it were the log. Child processes inherit what is opened here.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != fd:
                os.dup2(opened, fd)
                os.close(opened)
            os.set_inheritable(fd, True)


def write_line(fd: int, line: str) -> None:
    """Write `line` and its end to `fd`; what the reader does not take within a moment is lost. Raises nothing.

    The descriptor stays as it is: it is shared with child processes, so it cannot be made non-blocking.
    """
    rest = memoryview(f"{line}\n".encode(errors="backslashreplace"))
    try:
        while rest and select.select([], [fd], [], READY_SECONDS)[1]:
            rest = rest[os.write(fd, rest[:PIECE_BYTES]) :]
    except (OSError, ValueError):
        pass  # The terminal or the reader is gone; that is no reason to stop serving.
