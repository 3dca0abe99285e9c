"""The frame every service runs in: loop, logs, signals, listeners, drain, exit code (control-plane 7)."""

import asyncio
import gc
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final, TypeAlias

from ..errors import AisixError
from ..logs import LogWriter, configure, get_logger
from ..processes import hear_hangups, hold_lifeline
from ..settings import Settings
from ..settings.notices import severity
from ..streams import write_line
from ..tasks import TaskOwner
from .lifecycle import Lifecycle
from .listener import Listener, OpenListener, open_listener

Build: TypeAlias = Callable[[AsyncExitStack, Lifecycle, TaskOwner], Awaitable[Sequence[Listener]]]
"""Makes everything long-lived on the stack and says what to listen on. Must not wait for configuration to arrive."""

POLL_SECONDS: Final = 0.1
PROGRESS_SECONDS: Final = 5.0
LAST_ANSWERS_SECONDS: Final = 5.0
"""What nothing counts as in flight (an admin call, a scrape) gets this long once the listeners are closed."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Frame:
    """How one process of a service differs from the whole service."""

    worker: int | None = None
    """Its index among worker processes, for logs."""
    place: Callable[[Sequence[Listener]], Sequence[Listener]] = lambda listeners: listeners
    """Where the listeners of `build` really go."""
    min_drain_secs: float | None = None
    """In place of `shutdown.min_drain_secs`."""
    busy_with: str = "requests"
    """What `lifecycle.in_flight` counts, for logs."""


def run_service(
    name: str, settings: Settings, build: Build, *, warnings: Sequence[str] = (), frame: Frame | None = None
) -> int:
    """Run a service until SIGINT or SIGTERM and give its exit code: `sys.exit(run_service(...))`.

    Logs are configured (the writer is `lifecycle.log_writer`), `warnings` of the configuration are logged, `build` is
    awaited, its listeners are opened. After a signal, or `lifecycle.stop(code)`, the service drains: probes turn 503,
    it goes on accepting for `shutdown.min_drain_secs`, waits until nothing is in flight, closes the listeners, cancels
    the background tasks and closes the stack. An essential task that crashes stops it with exit code 1. An
    error of ours that keeps it from starting is told on stderr, with exit code 1. SIGHUP goes to `lifecycle.on_reload`.
    """
    hold_lifeline(os.environ)
    frame = frame or Frame()
    writer = configure(settings.observability, service=name, worker=frame.worker)
    try:
        for warning in warnings:
            (_log.error if severity(warning) == "error" else _log.warning)(warning)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_run(settings, build, frame, writer))
    except AisixError as error:
        _say(writer, f"Error: {error}")
        return 1
    except OSError as error:
        _say(writer, f"Error: {name} cannot start: {error}")
        return 1
    finally:
        writer.close()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        _log.warning("uvloop is not installed: running on asyncio's own event loop, which costs more CPU")
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _say(writer: LogWriter, text: str) -> None:
    """The last words on stderr, one write, after everything logged so far: one line, or a report of several."""
    writer.flush()
    write_line(2, "\n".join(line.rstrip() for line in text.splitlines() if line.strip()))


async def _run(settings: Settings, build: Build, frame: Frame, writer: LogWriter) -> int:
    """One life: start, serve, drain, end."""
    lifecycle = Lifecycle(writer, frame.worker)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_loop_error)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _on_signal, lifecycle, number)
    # Not SIG_IGN, which child processes would inherit.
    loop.add_signal_handler(signal.SIGHUP, _on_hangup, lifecycle)
    hear_hangups()
    async with AsyncExitStack() as stack, TaskOwner(lambda _name: lifecycle.stop(1)) as tasks:
        # The stack is the outer one: background tasks end before what they use is closed.
        async with AsyncExitStack() as opened:
            started = await _start(lifecycle, tasks, _open(build, frame, stack, lifecycle, tasks, opened))
            if started:
                await lifecycle.stopped()
                min_drain = settings.shutdown.min_drain_secs if frame.min_drain_secs is None else frame.min_drain_secs
                await drain(lifecycle, min_drain, frame.busy_with)
    _log.info("stopped", exit_code=lifecycle.exit_code)
    return lifecycle.exit_code


async def _start(lifecycle: Lifecycle, tasks: TaskOwner, opening: Coroutine[Any, Any, None]) -> bool:
    """Await `opening` unless the service is told to stop before; whether it was opened. Raises what it raises."""
    begun = monotonic()
    this = asyncio.current_task()
    assert this is not None
    # In this task, not in one of its own: what enters the stack may have to leave it in the task it entered in.
    watch = tasks.spawn(_cancel_when_stopped(lifecycle, this), name="stop before start")
    try:
        await opening
    except asyncio.CancelledError:
        if not lifecycle.stopping:
            raise
        this.uncancel()
        return False
    finally:
        watch.cancel()
    # What was made at start lives as long as the process: the collector need not walk it again (performance 6.11).
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
    _log.info("started", seconds=round(monotonic() - begun, 3))
    return True


async def _cancel_when_stopped(lifecycle: Lifecycle, starting: "asyncio.Task[Any]") -> None:
    await lifecycle.stopped()
    starting.cancel()


async def _open(
    build: Build, frame: Frame, stack: AsyncExitStack, lifecycle: Lifecycle, tasks: TaskOwner, opened: AsyncExitStack
) -> None:
    listeners = frame.place(await build(stack, lifecycle, tasks))
    open_listeners: list[OpenListener] = []
    opened.push_async_callback(_close, open_listeners)
    for listener in listeners:
        if listener.metrics is not None:
            lifecycle.report_to(listener.metrics)
        one = await open_listener(listener)
        open_listeners.append(one)
        _log.info("listening", listener=listener.name, url=one.url)


async def drain(lifecycle: Lifecycle, min_drain_secs: float, busy_with: str = "requests") -> None:
    """From the signal to the moment nothing is in flight; how long that takes is the platform's to bound."""
    lifecycle.begin_drain()
    _log.info("draining", min_drain_secs=min_drain_secs, in_flight=lifecycle.in_flight, of=busy_with)
    await asyncio.sleep(min_drain_secs)
    waited = 0
    while lifecycle.in_flight > 0:
        await asyncio.sleep(POLL_SECONDS)
        waited += 1
        if waited % round(PROGRESS_SECONDS / POLL_SECONDS) == 0:
            _log.info("still draining", in_flight=lifecycle.in_flight, of=busy_with)


async def _close(listeners: Iterable[OpenListener]) -> None:
    """Stop accepting everywhere first, then give what is still answered its time, all at once."""
    for listener in listeners:
        listener.stop_accepting()
    await asyncio.gather(*(listener.close(LAST_ANSWERS_SECONDS) for listener in listeners))


def _on_signal(lifecycle: Lifecycle, number: signal.Signals) -> None:
    if lifecycle.stopping:
        return
    _log.info("signal received", signal=number.name)
    lifecycle.stop()


def _on_hangup(lifecycle: Lifecycle) -> None:
    if not lifecycle.reload():
        _log.debug("SIGHUP is ignored: nothing is read from files here")


def _log_loop_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody awaited: an error in a callback, or a task that was dropped."""
    _log.error(str(context.get("message", "an error in the event loop")), exc_info=context.get("exception"))
