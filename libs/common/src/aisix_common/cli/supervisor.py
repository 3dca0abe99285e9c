"""Runs the services as child processes and ends with them: one queue of events, one loop over it.

    started --first SIGINT/SIGTERM--> stopping: SIGTERM to every child, wait for all, however long they drain
    started --a child ends---------> failing: the others go too; exit code and message are the child's. But one that
                                     `restarts` is started again, later each time (`restarts`), and nobody goes with it
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
from .restarts import Pace

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
    restarts: bool = False
    """Whether it is started again when it ends by itself, while the others go on."""


class _Slot:
    """One of the processes, over all its starts."""

    def __init__(self, start: Start) -> None:
        self.start: Final = start
        self.name: Final = start.command.name
        self.pace: Final = Pace()
        self.child: Child | None = None
        """None: it does not run."""

    def launch(self, events: "queue.SimpleQueue[_Event]", now: float) -> None:
        """Start the process. Raises OSError."""
        child = self.child = Child(self.start.command, self.start.environ)
        self.pace.started(now)
        # A blocking wait in a thread: portable, immediate, and free while nothing happens.
        waiter = threading.Thread(target=lambda: events.put(_Ended(self, child.wait())), name=self.name, daemon=True)
        waiter.start()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self.child is not None:
            self.child.send(number)

    def cut(self) -> None:
        """End the process at once, if it runs."""
        if self.child is not None:
            self.child.cut()

    def gone(self) -> None:
        """The process ended."""
        self.cut()
        self.child = None


@dataclass(frozen=True, slots=True)
class _Ended:
    slot: _Slot
    code: int


_Event = signal.Signals | _Ended


def supervise(
    starts: Sequence[Start], notes: Notes, clock: Callable[[], float] = time.monotonic, *, reloads: bool = False
) -> int:
    """Run `starts` until they end and give the exit code of the whole. Only for the main thread. `reloads`: SIGHUP
    means something to them."""
    events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
    slots = [_Slot(start) for start in starts]
    with _signals_as_events(events):
        try:
            for slot in slots:
                try:
                    slot.launch(events, clock())
                except OSError as error:
                    notes.fail(f"{slot.name} cannot be started: {error.strerror}")
                    return 1
            return _Watch(slots, events, notes, clock, reloads=reloads).follow()
        finally:
            for slot in slots:
                slot.cut()


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
        slots: Sequence[_Slot],
        events: "queue.SimpleQueue[_Event]",
        notes: Notes,
        clock: Callable[[], float],
        *,
        reloads: bool,
    ) -> None:
        self._slots = slots
        self._events = events
        self._notes = notes
        self._clock = clock
        self._reloads = reloads
        self._begin = clock()
        self._stopping = False
        self._culprit: _Ended | None = None

    def follow(self) -> int:
        """Handle events until no child is left; the exit code."""
        while any(slot.child is not None or slot.pace.waiting for slot in self._slots):
            event = self._next()
            if isinstance(event, _Ended):
                self._ended(event)
            elif event is not None:
                self._signalled(event)
            self._start_again()
        if self._culprit is None:
            return 0
        name, code = self._culprit.slot.name, self._culprit.code
        self._notes.fail(f"{name} ended with exit code {code}; its own last lines say why")
        return code or 1

    def _next(self) -> _Event | None:
        """Wait for the next event, but not for long. A signal that arrives at the very beginning of a wait does not end
        it: Python runs its handler, which makes the event, only afterwards."""
        try:
            return self._events.get(timeout=_LOOK_SECONDS)
        except queue.Empty:
            return None

    def _signalled(self, number: signal.Signals) -> None:
        if number == signal.SIGHUP and self._reloads:
            for slot in self._slots:
                slot.send(number)
            self._notes.say("info", "SIGHUP: the resources file is read again")
        elif number == signal.SIGHUP:
            self._notes.say("warn", "SIGHUP is ignored: resources come from etcd and settings are read at start only")
        elif not self._stopping:
            self._stop_all()
            self._notes.say("info", f"{number.name}: stopping")

    def _ended(self, ended: _Ended) -> None:
        slot = ended.slot
        slot.gone()
        if self._stopping:
            if self._culprit is None and ended.code not in _ASKED:
                self._culprit = ended
        elif slot.start.restarts:
            self._put_off(slot, f"ended with exit code {ended.code}")
        elif self._clock() - self._begin < _STARTING:
            self._culprit = ended
            # What the child said must stay the last thing seen, so the others get no time for last words.
            self._begin_stop()
            for other in self._slots:
                other.cut()
        else:
            self._culprit = ended
            self._stop_all()
            self._notes.say("error", f"{slot.name} ended with exit code {ended.code}: stopping the rest")

    def _put_off(self, slot: _Slot, why: str) -> None:
        """Have it started again later; told once, until it is well again."""
        if not slot.pace.troubled:
            self._notes.say("error", f"{slot.name} {why}: it is started again, and the others go on meanwhile")
        slot.pace.ended(self._clock())

    def _start_again(self) -> None:
        now = self._clock()
        for slot in self._slots:
            if slot.pace.due(now):
                try:
                    slot.launch(self._events, now)
                except OSError as error:
                    self._put_off(slot, f"cannot be started: {error.strerror}")
            elif slot.pace.recovered(now):
                self._notes.say("info", f"{slot.name} runs again")

    def _stop_all(self) -> None:
        self._begin_stop()
        for slot in self._slots:
            # Also for SIGINT: a child that is still importing would answer that with a traceback.
            slot.send(signal.SIGTERM)

    def _begin_stop(self) -> None:
        self._stopping = True
        for slot in self._slots:
            slot.pace.give_up()
