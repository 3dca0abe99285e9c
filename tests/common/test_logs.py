"""Logs: whole lines in small writes, never waiting for a reader, never showing a secret."""

import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from aisix_common.logs import LogWriter, configure, get_logger
from aisix_common.logs.rendering import REFUSED, json_line, shown, text_line
from aisix_common.logs.setup import level_of
from aisix_common.logs.writer import ATOMIC
from aisix_common.secret import Secret
from aisix_common.settings import Observability

CANARY = "canary-5151"


class Pipe:
    """An output whose writes are seen one by one: a packet socket keeps them apart, as a pipe does not."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.fd = self.theirs.fileno()

    def writes(self) -> list[bytes]:
        """Every write so far, each as it was made."""
        self.ours.setblocking(False)
        found = []
        while True:
            try:
                found.append(self.ours.recv(1 << 20))
            except BlockingIOError:
                return found

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


@contextmanager
def writing(fd: int, **options: Any) -> Iterator[LogWriter]:
    writer = LogWriter(json_line({"service": "proxy"}), fd=fd, **options)
    try:
        yield writer
    finally:
        writer.close()


@pytest.fixture
def lines(pipe: Pipe) -> Iterator[Any]:
    """`lines(log_level=...)` configures logging; the function it gives returns what was logged as objects."""
    writers = []
    before = structlog.get_config()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def start(**options: Any) -> Any:
        writer = configure(Observability(**options), service="proxy", worker=2, fd=pipe.fd)
        writers.append(writer)

        def logged() -> list[dict[str, Any]]:
            assert writer.flush()
            return [json.loads(line) for line in b"".join(pipe.writes()).splitlines()]

        return logged

    yield start
    for writer in writers:
        writer.close()
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_says_when_who_and_what(lines: Any) -> None:
    logged = lines(service_name="eu-1")
    get_logger("test").info("it happened", count=3)
    (line,) = logged()
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "service": "proxy",
        "worker": 2,
        "gateway": "eu-1",
        "logger": "test",
        "message": "it happened",
        "count": 3,
    }


def test_secrets_are_masked_and_bytes_refused_at_any_depth(lines: Any) -> None:
    logged = lines()
    secret = Secret(CANARY)
    get_logger("test").warning("s", key=secret, deep={"a": [secret, (b"x",)]}, raw=CANARY.encode(), err=repr(secret))
    (line,) = logged()
    assert CANARY not in json.dumps(line)
    assert line["key"] == "***"
    assert line["deep"] == {"a": ["***", [REFUSED]]}
    assert line["raw"] == REFUSED


def test_records_are_masked_too(pipe: Pipe) -> None:
    with writing(pipe.fd) as writer:
        writer.record({"event": "e", "key": Secret(CANARY), "body": b"secret", "deep": [Secret(CANARY)]})
        assert writer.flush()
        (line,) = map(json.loads, pipe.writes())
    assert (line["key"], line["body"], line["deep"]) == ("***", REFUSED, ["***"])


@pytest.mark.parametrize(
    ("log_level", "seen"),
    [
        ("trace", ["debug", "info", "warn", "error"]),
        ("debug", ["debug", "info", "warn", "error"]),
        ("info", ["info", "warn", "error"]),
        ("store=debug,warn", ["warn", "error"]),
        ("error", ["error"]),
        ("off", []),
    ],
)
def test_levels(lines: Any, log_level: str, seen: list[str]) -> None:
    logged = lines(log_level=log_level)
    log = get_logger("test")
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("x")
    assert [line["level"] for line in logged()] == seen


def test_the_first_plain_level_counts() -> None:
    assert level_of("info,aisix=debug") == logging.INFO
    assert level_of("aisix=debug") == logging.INFO
    assert level_of("aisix=debug, ERROR") == logging.ERROR


def test_the_access_log_is_information(lines: Any, pipe: Pipe) -> None:
    writer = configure(Observability(log_level="warn"), service="proxy", fd=pipe.fd)
    try:
        writer.record({"event": "proxy request completed"})
        assert writer.flush()
        assert pipe.writes() == []
    finally:
        writer.close()
    logged = lines()
    assert logged() == []


def test_an_exception_is_one_line(lines: Any) -> None:
    logged = lines()
    try:
        raise LookupError("two\nlines")
    except LookupError:
        get_logger("test").exception("it broke")
    (line,) = logged()
    assert line["level"] == "error"
    assert "LookupError: two\nlines" in line["exception"]


def test_what_libraries_log_comes_along_from_warning_on(lines: Any) -> None:
    logged = lines()
    logging.getLogger("aiohttp.server").info("chatter")
    logging.getLogger("aiohttp.server").warning("odd: %s", Secret(CANARY))
    (odd,) = logged()
    assert (odd["logger"], odd["level"], odd["message"]) == ("aiohttp.server", "warn", "odd: ***")


def test_a_wrong_format_string_of_a_library_is_survived(lines: Any) -> None:
    logged = lines()
    (ours,) = [handler for handler in logging.getLogger().handlers if type(handler).__module__.startswith("aisix")]
    ours.emit(logging.LogRecord("grpc", logging.ERROR, "x.py", 1, "%d", ("not a number",), None))
    (line,) = logged()
    assert (line["logger"], line["level"]) == ("grpc", "error")
    assert "cannot be formatted" in line["message"]


_SCALARS = st.none() | st.text(max_size=8) | st.integers() | st.binary(max_size=4) | st.floats()


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=8), _SCALARS | st.lists(_SCALARS, max_size=3), max_size=4))
def test_any_fields_make_exactly_one_line_of_json(fields: dict[str, Any]) -> None:
    line = json_line({"service": "proxy"})(1.5, "info", fields)
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert json.loads(line).keys() >= {"time", "level", "service"}


@given(st.text(), st.text())
def test_any_text_makes_exactly_one_line_for_people(event: str, value: str) -> None:
    line = text_line({"service": "proxy"})(1.5, "info", {"event": event, "value": value})
    text = line.decode()
    assert len(text.splitlines()) == 1
    assert "\x1b" not in text


def test_the_readable_form() -> None:
    line = text_line({"service": "proxy", "worker": 1})
    fields = {"logger": "x", "event": "listening", "url": "http://127.0.0.1:1", "note": "two words", "n": 5}
    assert (
        line(0.25, "info", fields).decode()
        == '1970-01-01T00:00:00.250000Z info    proxy/1: listening url=http://127.0.0.1:1 note="two words" n=5\n'
    )
    broken = line(0, "error", {"event": "bad", "exception": "Traceback\n  oh"}).decode()
    assert broken.splitlines()[1:] == ["    Traceback", "      oh"]
    assert "\x1b" not in line(0, "error", {"event": "bad", "exception": "E: \x1b[2J"}).decode()


def test_lines_of_many_threads_all_arrive(pipe: Pipe) -> None:
    with writing(pipe.fd) as writer:

        def log(name: int) -> None:
            for number in range(50):
                writer.record({"event": f"{name}-{number}"})

        threads = [threading.Thread(target=log, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert writer.flush(5)
        events = [json.loads(line)["message"] for write in pipe.writes() for line in write.splitlines()]
    assert sorted(events) == sorted(f"{name}-{number}" for name in range(8) for number in range(50))


def test_depth_is_bounded() -> None:
    value: list[Any] = []
    for _ in range(2000):
        value = [value]
    assert "..." in json.dumps(shown(value))
    line = json_line({"service": "proxy"})(0, "info", {"deep": value})
    assert line.endswith(b"}\n")


def test_writes_are_whole_lines_and_small(pipe: Pipe) -> None:
    with writing(pipe.fd) as writer:
        for number in range(1200):
            writer.record({"event": "e", "number": number, "pad": "x" * (number % 700)})
        writer.record({"event": "long", "pad": "y" * 3 * ATOMIC})
        writer.record({"event": "after"})
        found: list[bytes] = []
        deadline = time.monotonic() + 10
        while not (found and found[-1].endswith(b'"message":"after"}\n')):
            assert time.monotonic() < deadline
            writer.flush(0.05)
            found += pipe.writes()
    assert all(write.endswith(b"\n") for write in found)
    assert all(len(write) <= ATOMIC or write.count(b"\n") == 1 for write in found)
    events = [json.loads(line) for write in found for line in write.splitlines()]
    assert [event["number"] for event in events if event["message"] == "e"] == list(range(1200)), "none lost, in order"
    assert len(found) < 400, "lines are written in batches"
    assert writer.dropped == 0


def test_a_line_is_written_soon_without_any_flush(pipe: Pipe) -> None:
    pipe.ours.settimeout(5)
    with writing(pipe.fd) as writer:
        writer.record({"event": "alone"})
        assert b"alone" in pipe.ours.recv(4096)


def test_a_slow_reader_costs_lines_but_no_time() -> None:
    read_end, write_end = os.pipe()
    try:
        with writing(write_end, limit=1000) as writer:
            begun = time.monotonic()
            for number in range(5000):
                writer.record({"event": "e", "number": number, "pad": "x" * 300})
            assert time.monotonic() - begun < 2, "nobody read, and nobody waited"
            assert writer.dropped > 3000
            reader = threading.Thread(target=lambda: [None for _ in iter(lambda: os.read(read_end, 65536), b"")])
            reader.start()
            assert writer.flush(5), "it goes on when the reader does"
        os.close(write_end)
        write_end = -1
        reader.join(5)
    finally:
        os.close(read_end)
        if write_end >= 0:
            os.close(write_end)


def test_an_output_that_is_gone_is_counted_not_raised() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with writing(write_end) as writer:
        writer.record({"event": "e"})
        assert writer.flush()
        assert writer.dropped == 1
    os.close(write_end)


def test_a_value_that_cannot_be_shown_takes_nothing_else_with_it(pipe: Pipe) -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    with writing(pipe.fd) as writer:
        writer.record({"event": "bad", "value": Broken()})
        writer.record({"event": "good"})
        assert writer.flush()
        assert writer.dropped == 1
        assert b'"good"' in b"".join(pipe.writes())


def test_lines_after_close_are_not_lost(pipe: Pipe) -> None:
    with writing(pipe.fd) as writer:
        writer.record({"event": "before"})
    writer.record({"event": "after"})
    assert [json.loads(write)["message"] for write in pipe.writes()] == ["before", "after"]


@pytest.mark.parametrize("ending", ["pass", "raise SystemExit(3)", "1/0"])
def test_the_last_lines_are_written_whatever_ends_the_program(ending: str) -> None:
    program = f"""
from aisix_common.logs import configure, get_logger
from aisix_common.settings import Observability
writer = configure(Observability(), service="proxy")
get_logger("x").info("last words")
writer.record({{"event": "last record"}})
{ending}
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20)
    assert [json.loads(line)["message"] for line in done.stdout.splitlines()] == ["last words", "last record"]


def test_a_record_costs_the_caller_next_to_nothing() -> None:
    devnull = os.open(os.devnull, os.O_WRONLY)
    fields = {"event": "proxy request completed", "method": "POST", "path": "/v1/chat/completions", "status": 200}
    rounds, best = 200, 1.0
    with writing(devnull) as writer:
        for _ in range(25):  # the quietest of many moments: the machine has other work too
            begun = time.thread_time()
            for _ in range(rounds):
                writer.record(fields)
            best = min(best, (time.thread_time() - begun) / rounds)
            assert writer.flush()
    os.close(devnull)
    assert best < 5e-6, "0.5 us; formatting it here would cost 15"
