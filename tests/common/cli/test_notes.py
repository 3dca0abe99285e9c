"""What the supervisor says, where, and in which form."""

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from aisix_common.cli.notes import Notes, notes_for
from aisix_common.settings import Observability


class _Noon:
    def now(self) -> datetime:
        return datetime(2024, 5, 6, 12, 0, 0, 7, tzinfo=UTC)


@pytest.fixture
def pipe() -> Iterator[tuple[int, Callable[[], list[str]]]]:
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)

    def written() -> list[str]:
        try:
            return os.read(read_end, 65536).decode().splitlines()
        except BlockingIOError:
            return []

    yield write_end, written
    os.close(read_end)
    os.close(write_end)


def test_text(pipe: tuple[int, Callable[[], list[str]]]) -> None:
    fd, written = pipe
    Notes(log_fd=fd, clock=_Noon()).say("warn", "look out")
    assert written() == ["2024-05-06T12:00:00.000007Z warn    aisix: look out"]


def test_json_is_one_line_whatever_is_in_it(pipe: tuple[int, Callable[[], list[str]]]) -> None:
    fd, written = pipe
    Notes(json=True, gateway="eu-1", log_fd=fd, clock=_Noon()).say("error", "two\nlines é")
    (line,) = written()
    assert json.loads(line) == {
        "time": "2024-05-06T12:00:00.000007Z",
        "level": "error",
        "service": "aisix",
        "gateway": "eu-1",
        "message": "two\nlines é",
    }


def test_the_level_holds_for_notes_but_not_for_last_words(pipe: tuple[int, Callable[[], list[str]]]) -> None:
    fd, written = pipe
    notes = Notes(threshold="off", log_fd=fd, error_fd=fd)
    notes.say("error", "unheard")
    notes.fail("gone")
    notes.fail("Error: config load failed")
    assert written() == ["Error: gone", "Error: config load failed"]


def test_a_closed_output_hurts_nobody() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    notes = Notes(log_fd=write_end, error_fd=write_end)
    notes.say("info", "into the void")
    notes.fail("into the void")
    os.close(write_end)


@pytest.mark.parametrize(
    ("log_format", "log_level", "is_json", "threshold"),
    [
        ("json", "info", True, "info"),
        ("text", "warn", False, "warn"),
        ("auto", "store=debug,error", True, "error"),
        ("auto", "store=debug", True, "info"),
    ],
)
def test_form_and_level_follow_the_settings(
    log_format: str, log_level: str, is_json: bool, threshold: str, pipe: tuple[int, Callable[[], list[str]]]
) -> None:
    fd, _ = pipe
    observability = Observability(log_format=log_format, log_level=log_level, service_name="eu-1")  # type: ignore[arg-type]
    notes = notes_for(observability, fd)
    assert (notes.json, notes.gateway, notes.threshold) == (is_json, "eu-1", threshold)


def test_a_terminal_gets_text() -> None:
    ours, terminal = os.openpty()
    try:
        assert not notes_for(Observability(), terminal).json
    finally:
        os.close(ours)
        os.close(terminal)
