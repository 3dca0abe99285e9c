"""One connection's timer, and the words for what breaks it. Bytes and exchanges are in test_reply and test_client."""

import asyncio
import errno
import os
import ssl
from collections.abc import Iterator

import pytest

from aisix_proxy.upstream.connection import Connection, reason


class Alone:
    """A pool that only counts."""

    peer = "up:1"

    def __init__(self) -> None:
        self.count = 0

    def made(self, connection: Connection) -> None:
        self.count += 1

    def lost(self, connection: Connection) -> None:
        self.count -= 1

    def release(self, connection: Connection) -> None: ...


class Pipe(asyncio.Transport):
    """A transport that remembers what was done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


class Steps:
    """A loop of which only the clock and the timers are real, and both stand still until told."""

    def __init__(self) -> None:
        self.now = 100.0
        self.armed: list[asyncio.TimerHandle] = []
        self.loop = asyncio.new_event_loop()
        self.loop.time = lambda: self.now  # type: ignore[method-assign]
        call_at = self.loop.call_at

        def remember(when: float, callback: object, *args: object) -> asyncio.TimerHandle:
            handle = call_at(when, callback, *args)  # type: ignore[arg-type]
            self.armed.append(handle)
            return handle

        self.loop.call_at = remember  # type: ignore[method-assign, assignment]

    def fire(self) -> None:
        handle = self.armed[-1]
        self.now = handle.when()
        handle._run()


def connected(steps: Steps) -> tuple[Connection, Pipe]:
    connection, pipe = Connection(steps.loop, Alone()), Pipe()
    connection.connection_made(pipe)
    return connection, pipe


@pytest.fixture
def steps() -> Iterator[Steps]:
    steps = Steps()
    yield steps
    steps.loop.close()


def test_deadlines_that_move_forward_arm_one_timer(steps: Steps) -> None:
    connection, _ = connected(steps)
    for _ in range(1000):
        steps.now += 0.01
        connection.watch(steps.now + 15)
    assert len(steps.armed) == 1


def test_an_earlier_deadline_arms_an_earlier_timer(steps: Steps) -> None:
    connection, pipe = connected(steps)
    connection.watch(steps.now + 6000)
    connection.watch(steps.now + 1)
    assert [handle.cancelled() for handle in steps.armed] == [True, False]
    steps.fire()
    assert pipe.aborted


def test_a_timer_that_fires_before_the_deadline_is_armed_again(steps: Steps) -> None:
    connection, pipe = connected(steps)
    connection.watch(steps.now + 1)
    connection.watch(steps.now + 5)
    steps.fire()
    assert not pipe.aborted
    steps.fire()
    assert pipe.aborted


def test_no_deadline_no_consequence(steps: Steps) -> None:
    connection, pipe = connected(steps)
    connection.watch(steps.now + 1)
    connection.watch(None)
    steps.fire()
    assert not pipe.aborted


def test_a_lost_connection_leaves_no_timer(steps: Steps) -> None:
    connection, _ = connected(steps)
    connection.watch(steps.now + 1)
    connection.connection_lost(None)
    assert steps.armed[0].cancelled()
    assert not connection.usable


def test_one_that_nobody_wants_any_more_is_counted_out_once(steps: Steps) -> None:
    home = Alone()
    made, pipe = Connection(steps.loop, home), Pipe()
    made.connection_made(pipe)
    made.refuse()
    assert (home.count, pipe.aborted) == (0, True)
    made.connection_lost(None)
    assert home.count == 0
    late, pipe = Connection(steps.loop, home), Pipe()
    late.refuse()
    late.connection_made(pipe)
    late.connection_lost(None)
    assert (home.count, pipe.aborted) == (0, True)


def test_head_and_body_are_one_write(steps: Steps) -> None:
    connection, pipe = connected(steps)
    connection.begin(100, b"head", b"body")
    assert pipe.written == [b"headbody"]


def test_giving_up_a_finished_exchange_spares_the_next(steps: Steps) -> None:
    """A caller may leave in the very moment its answer is complete, and the connection is somebody else's already."""
    connection, pipe = connected(steps)
    first = connection.begin(100, b"head", b"")
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    second = connection.begin(100, b"head", b"")
    connection.give_up(first)
    assert (connection.reply, pipe.aborted) == (second, False)
    connection.give_up(second)
    assert pipe.aborted


def test_a_connection_that_is_gone_fails_the_exchange_it_was_to_carry(steps: Steps) -> None:
    connection, _ = connected(steps)
    connection.connection_lost(None)
    reply = connection.begin(100, b"head", b"body")
    assert reply.error is not None
    assert not reply.started


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (OSError(errno.ECONNREFUSED, "Connect call failed ('10.0.0.1', 80)"), "connection refused"),
        (ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)), "connection reset by peer"),
        (ConnectionResetError(), "the connection failed"),
        (OSError("Multiple exceptions: sk-secret"), "the connection failed"),
        (ssl.SSLError(1, "[SSL] sk-secret"), "TLS: protocol error"),
        (ValueError("sk-secret"), "the connection failed"),
    ],
)
def test_reasons_show_no_address_and_no_secret(problem: Exception, words: str) -> None:
    assert reason(problem) == words
