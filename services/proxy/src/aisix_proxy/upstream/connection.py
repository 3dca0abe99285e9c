"""One TCP or TLS connection to a provider: hands bytes to the reply of the exchange it serves, and keeps one timer.

Stands between the transport and `Reply`; the pool owns it. It never parses, and holds nothing of an exchange that has
ended.
"""

import asyncio
import math
import ssl
from os import strerror
from typing import Protocol, cast

from .reply import Reply

EARLY = 0.001
"""Seconds a timer may fire before its time without being armed again: the loop's clock ticks in milliseconds."""


def reason(problem: BaseException) -> str:
    """What went wrong with a socket, in words that hold no address, certificate or credential."""
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"certificate refused: {getattr(problem, 'verify_message', 'not trusted')}"
    if isinstance(problem, ssl.SSLError):
        words = getattr(problem, "reason", None) or "protocol error"  # OpenSSL's own errors have one, others do not
        return f"TLS: {words.replace('_', ' ').lower()}"
    if isinstance(problem, OSError) and problem.errno:
        return strerror(problem.errno).lower()
    return "the connection failed"


class Home(Protocol):
    """Where a connection belongs: its pool."""

    peer: str

    def made(self, connection: "Connection") -> None: ...
    def release(self, connection: "Connection") -> None: ...
    def lost(self, connection: "Connection") -> None: ...


class Connection(asyncio.Protocol):
    """See the module. `reused` says that at least one exchange went over it before the current one."""

    __slots__ = ("_armed", "_due", "_home", "_loop", "_timer", "_transport", "_unwanted", "parked", "reply", "reused")

    def __init__(self, loop: asyncio.AbstractEventLoop, home: Home) -> None:
        self._loop = loop
        self._home = home
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._armed = math.inf
        self._due: float | None = None
        self._unwanted = False
        self.reply: Reply | None = None
        self.reused = False
        self.parked = False
        """It lies idle in its pool."""

    # -- asyncio ------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        made = cast("asyncio.Transport", transport)
        if self._unwanted:
            made.abort()  # see `refuse`: it does not count
            return
        self._transport = made
        self._home.made(self)

    def data_received(self, data: bytes) -> None:
        reply = self.reply
        if reply is None:
            self.drop()  # nobody asked: whatever this is, it must not become the next caller's answer
        else:
            reply.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is None:
            return
        reply, self.reply = self.reply, None
        self._disarm()
        self._transport = None
        self._home.lost(self)
        if reply is not None:
            reply.broken(None if exc is None else reason(exc))

    # -- for the client -----------------------------------------------------------------------------------------------

    def refuse(self) -> None:
        """Whoever wanted it left while it was being made.

        uvloop then closes the transport itself and never reports its loss, and may still report that it was made.
        """
        self._unwanted = True
        self.cut()
        self.connection_lost(None)

    @property
    def usable(self) -> bool:
        """An exchange may begin on it, as far as anybody can know."""
        return self._transport is not None and not self._transport.is_closing()

    def begin(self, max_body: int | None, head: bytes, body: bytes) -> Reply:
        """Send one request; its reply is filled as bytes come."""
        transport = self._transport
        self.reply = reply = Reply(self, self._home.peer, max_body)
        if transport is None:
            self.reply = None
            reply.broken(None)
        elif len(body) > 65536:
            transport.writelines((head, body))
        else:
            transport.write(head + body)
        return reply

    def watch(self, due: float | None) -> None:
        """From now on `due` (loop time) is when the current wait is over; None: never.

        The timer is armed again only when it would fire too late: with deadlines that move forward it is set once in a
        while, not once per event.
        """
        self._due = due
        if due is not None and due < self._armed:
            if self._timer is not None:
                self._timer.cancel()
            self._armed = due
            self._timer = self._loop.call_at(due, self._tick)

    def unwatch(self, reply: Reply) -> None:
        """The exchange of `reply` waits without a deadline from now on."""
        if self.reply is reply:
            self._due = None

    # -- for the reply ------------------------------------------------------------------------------------------------

    def finish(self, reusable: bool) -> None:
        """The answer is complete. A request still being written means the provider did not want all of it."""
        self.reply = None
        self._due = None
        transport = self._transport
        if transport is None:
            return
        if reusable and not transport.is_closing() and not transport.get_write_buffer_size():
            self._home.release(self)
        else:
            transport.abort()

    def drop(self) -> None:
        """Cut it now, whatever is on the way; the reply hears no more of it."""
        self.reply = None
        self._disarm()
        self.cut()

    def give_up(self, reply: Reply) -> None:
        """Cut it if it still serves `reply`: by now it may have finished that, and serve somebody else."""
        if self.reply is reply:
            self.drop()

    def cut(self) -> None:
        """Cut it now; the reply learns that its connection broke."""
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    # -- inside -------------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._timer = None
        self._armed = math.inf
        due = self._due
        if due is None:
            return
        if due > self._loop.time() + EARLY:
            self.watch(due)
            return
        self._due = None
        if self.reply is None:
            self.drop()  # idle for too long
        else:
            self.reply.expire()

    def _disarm(self) -> None:
        self._due = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._armed = math.inf
