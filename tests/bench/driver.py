"""The load: closed loop over raw connections, every answer checked, bounded in time.

Kept cheap (no HTTP library) so that the measured process, not the driver, is what a run waits for.
"""

import asyncio
import time
from dataclasses import dataclass, field
from typing import cast


@dataclass
class Load:
    """What to send: one prepared request, on `connections` connections, for `seconds`."""

    request: bytes
    connections: int
    seconds: float
    stream: bool


@dataclass
class Outcome:
    """What came back. Times are in seconds."""

    requests: int = 0
    events: int = 0
    errors: int = 0
    first_error: str = ""
    first_byte: list[float] = field(default_factory=list)
    latency: list[float] = field(default_factory=list)


class Connection(asyncio.Protocol):
    """One keep-alive connection that sends the next request as soon as an answer is complete."""

    def __init__(self, load: Load, outcome: Outcome, deadline: float, done: "asyncio.Future[None]") -> None:
        self._load = load
        self._outcome = outcome
        self._deadline = deadline
        self._done = done
        self._parts: list[bytes] = []
        self._answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self._send()

    def _send(self) -> None:
        self._parts = []
        self._answered = False
        self._sent = time.perf_counter()
        self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        if not self._answered:
            self._answered = True
            self._outcome.first_byte.append(time.perf_counter() - self._sent)
        self._parts.append(data)
        if self._load.stream:
            complete = data.endswith(b"\r\n0\r\n\r\n") or b"".join(self._parts[-2:]).endswith(b"\r\n0\r\n\r\n")
        else:
            complete = self._buffered_complete()
        if complete:
            self._finish()

    def _buffered_complete(self) -> bool:
        answer = b"".join(self._parts)
        head_end = answer.find(b"\r\n\r\n")
        if head_end < 0:
            return False
        lower = answer[:head_end].lower()
        at = lower.find(b"content-length:")
        length = int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        return len(answer) >= head_end + 4 + length

    def _finish(self) -> None:
        answer = b"".join(self._parts)
        wanted = b"data: [DONE]" if self._load.stream else b'"usage"'
        if not answer.startswith(b"HTTP/1.1 200") or wanted not in answer:
            self._outcome.errors += 1
            self._outcome.first_error = self._outcome.first_error or answer[:300].decode(errors="replace")
        self._outcome.requests += 1
        self._outcome.events += answer.count(b"data: {") if self._load.stream else 0
        self._outcome.latency.append(time.perf_counter() - self._sent)
        if time.perf_counter() < self._deadline:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if time.perf_counter() < self._deadline:
            self._outcome.errors += 1
            self._outcome.first_error = self._outcome.first_error or f"connection lost: {exc!r}"
        if not self._done.done():
            self._done.set_result(None)


async def drive(port: int, load: Load) -> Outcome:
    """Run `load` against 127.0.0.1:`port`; returns when every connection has finished its last answer."""
    loop = asyncio.get_running_loop()
    outcome = Outcome()
    deadline = time.perf_counter() + load.seconds
    finished: list[asyncio.Future[None]] = []
    for _ in range(load.connections):
        done: asyncio.Future[None] = loop.create_future()
        finished.append(done)
        await loop.create_connection(lambda d=done: Connection(load, outcome, deadline, d), "127.0.0.1", port)  # type: ignore[misc]
    async with asyncio.timeout(load.seconds + 60):
        await asyncio.gather(*finished)
    return outcome
