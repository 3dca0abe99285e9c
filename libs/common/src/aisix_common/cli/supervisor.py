"""Runs the services as child processes and ends with them: one queue of events, one loop over it.

    started --first SIGINT/SIGTERM--> stopping: SIGTERM to every child, wait for all, however long they drain
    started --a child ends---------> failing: the others go too; exit code and message are the child's
    either  --SIGHUP---------------> passed on where the children read a resources file; else noted and ignored

The children hold a lifeline (`processes`), so they also go when this process is killed. Knows no settings.
"""

import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Final

from aisix_common.processes import Child, Command

from .notes import Notes

_STARTING: Final = 10.0
"""Seconds in which the early end of one child means that the gateway did not come up: nobody is drained for then."""

_LOOK_SECONDS: Final = 0.5

_ASKED: Final = frozenset({0, 128 + signal.SIGTERM})
"""Exit codes of a child that ended because it was asked to; the second if it had not even finished its start."""


@dataclass(frozen=True, slots=True)
class Start:
    """One process to run."""

    command: Command
    environ: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Ended:
    child: Child
    code: int


_Event = signal.Signals | _Ended


def supervise(
    starts: Sequence[Start], notes: Notes, clock: Callable[[], float] = time.monotonic, *, reloads: bool = False
) -> int:
    """Run `starts` until they end and give the exit code of the whole. Only for the main thread. `reloads`: SIGHUP
    means something to them."""
    events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
    children: list[Child] = []
    with _signals_as_events(events):
        try:
            for start in starts:
                children.append(_launch(start, events))  # noqa: PERF401 - those before a failing one must be known
            return _Watch(children, events, notes, clock, reloads=reloads).follow()
        except OSError as error:
            notes.fail(f"{starts[len(children)].command.name} cannot be started: {error.strerror}")
            return 1
        finally:
            for child in children:
                child.cut()


def _launch(start: Start, events: "queue.SimpleQueue[_Event]") -> Child:
    child = Child(start.command, start.environ)
    # A blocking wait in a thread: portable, immediate, and free while nothing happens.
    waiter = threading.Thread(target=lambda: events.put(_Ended(child, child.wait())), name=child.name, daemon=True)
    waiter.start()
    return child


@contextmanager
def _signals_as_events(events: "queue.SimpleQueue[_Event]") -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP become events; what they did before is restored at the end."""

    def note(number: int, frame: FrameType | None) -> None:
        events.put(signal.Signals(number))  # SimpleQueue.put is reentrant, made for this

    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, note) for number in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Watch:
    """The loop and its state."""

    def __init__(
        self,
        children: Sequence[Child],
        events: "queue.SimpleQueue[_Event]",
        notes: Notes,
        clock: Callable[[], float],
        *,
        reloads: bool,
    ) -> None:
        self._running = list(children)
        self._events = events
        self._notes = notes
        self._clock = clock
        self._reloads = reloads
        self._begin = clock()
        self._stopping = False
        self._culprit: _Ended | None = None

    def follow(self) -> int:
        """Handle events until no child is left; the exit code."""
        while self._running:
            event = self._next()
            if isinstance(event, _Ended):
                self._ended(event)
            else:
                self._signalled(event)
        if self._culprit is None:
            return 0
        name, code = self._culprit.child.name, self._culprit.code
        self._notes.fail(f"{name} ended with exit code {code}; its own last lines say why")
        return code or 1

    def _next(self) -> _Event:
        """Wait for the next event. A signal that arrives at the very beginning of a wait does not end it: Python runs
        its handler, which makes the event, only afterwards. So no wait is long."""
        while True:
            try:
                return self._events.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                pass

    def _signalled(self, number: signal.Signals) -> None:
        if number == signal.SIGHUP and self._reloads:
            for child in self._running:
                child.send(number)
            self._notes.say("info", "SIGHUP: the resources file is read again")
        elif number == signal.SIGHUP:
            self._notes.say("warn", "SIGHUP is ignored: resources come from etcd and settings are read at start only")
        elif not self._stopping:
            self._stop_all()
            self._notes.say("info", f"{number.name}: stopping")

    def _ended(self, ended: _Ended) -> None:
        self._running.remove(ended.child)
        if self._stopping:
            if self._culprit is None and ended.code not in _ASKED:
                self._culprit = ended
            return
        self._culprit = ended
        if self._clock() - self._begin < _STARTING:
            # What the child said must stay the last thing seen, so the others get no time for last words.
            self._stopping = True
            for child in self._running:
                child.cut()
        else:
            self._stop_all()
            self._notes.say("error", f"{ended.child.name} ended with exit code {ended.code}: stopping the rest")

    def _stop_all(self) -> None:
        self._stopping = True
        for child in self._running:
            # Also for SIGINT: a child that is still importing would answer that with a traceback.
            child.send(signal.SIGTERM)
