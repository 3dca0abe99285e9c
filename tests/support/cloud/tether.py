"""Start a program that ends with whoever holds a FIFO open: `python -I -S tether.py FIFO PROGRAM ARGUMENTS...`.

The program takes this process over, so signals reach it and nobody stands between. A forked watcher waits for the end
of the FIFO, which the kernel sees to even when its holder was killed. Stands alone: it imports nothing of ours.
"""

import os
import signal
import sys


def main(fifo: str, *command: str) -> None:
    # Without O_NONBLOCK this would wait for a holder that is gone already; blocking again, a read then ends at once.
    lifeline = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(lifeline, True)
    program = os.getpid()
    if os.fork() == 0:
        while os.read(lifeline, 64):
            pass
        if os.getppid() == program:  # else it has ended, and its number may be somebody else's
            os.kill(program, signal.SIGKILL)
        os._exit(0)
    os.close(lifeline)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
