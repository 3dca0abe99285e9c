"""Lines as bytes: JSON or text, one line each whatever is in them, secrets masked, bytes refused. Pure."""

import json
from collections.abc import Mapping, MutableMapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import orjson

from ..secret import MASK, Secret

REFUSED: Final = "<bytes refused>"
"""Shown in place of bytes: they are bodies or keys, and nobody reads them in a log."""

_EVENT: Final = b'{"event":'
_DEPTH: Final = 8
_BARE: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/@+*$%[]{}<>()")


class Line(Protocol):
    """Makes one line, with its end, of a time, a level and fields whose `event` says what happened."""

    def __call__(self, time: float, level: str, fields: Mapping[str, Any]) -> bytes: ...


def shown(value: Any, depth: int = 0) -> Any:
    """`value` with every Secret masked and bytes refused, at any depth; what JSON cannot say becomes its text.

    Deeper than eight levels nothing is shown.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Secret):
        return MASK
    if isinstance(value, bytes | bytearray | memoryview):
        return REFUSED
    if depth >= _DEPTH:
        return "..."
    if isinstance(value, Mapping):
        return {str(key): shown(item, depth + 1) for key, item in value.items()}
    if isinstance(value, Sequence | set | frozenset):
        return [shown(item, depth + 1) for item in value]
    return str(value)


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """A structlog processor: `shown` for every value of a line."""
    return {key: shown(value) for key, value in event.items()}


def json_line(fixed: Mapping[str, Any]) -> Line:
    """Lines as JSON objects: `time` (RFC 3339, UTC, microseconds), `level`, then `fixed`, then the fields.

    Their `event` is called `message`.
    """
    tail = "".join(f",{orjson.dumps({key: value}).decode()[1:-1]}" for key, value in fixed.items())
    clock = _Clock()
    levels: dict[str, bytes] = {}

    def line(time: float, level: str, fields: Mapping[str, Any]) -> bytes:
        try:
            body = orjson.dumps(fields, default=shown, option=orjson.OPT_APPEND_NEWLINE)
        except (TypeError, ValueError, RecursionError):
            # A lone surrogate, an integer above 64 bits, a key that is no text: rare, so the slow way may take care.
            body = json.dumps(shown(fields)).encode() + b"\n"
        head = levels.get(level)
        if head is None:
            head = levels[level] = f'Z","level":"{level}"{tail}'.encode()
        second, micros = clock.split(time)
        if body.startswith(_EVENT):  # log pipelines look for `message`; in here it is structlog's `event`
            return b'{"time":"%b.%06d%b,"message":%b' % (second, micros, head, body[len(_EVENT) :])
        rest = b"," + body[1:] if len(body) > len(b"{}\n") else b"}\n"
        return b'{"time":"%b.%06d%b%b' % (second, micros, head, rest)

    return line


def text_line(fixed: Mapping[str, Any]) -> Line:
    """Lines for people: time, level, who, what, then `key=value`; a traceback follows on lines of its own."""
    who = "/".join(str(value) for value in fixed.values())
    clock = _Clock()

    def line(time: float, level: str, fields: Mapping[str, Any]) -> bytes:
        rest = {key: shown(value) for key, value in fields.items() if key not in ("event", "exception", "logger")}
        pairs = "".join(f" {key}={_word(value)}" for key, value in rest.items())
        event = _one_line(str(fields.get("event", "")))
        text = f"{clock.timestamp(time)} {level:<7} {who}: {event}{pairs}\n"
        if "exception" in fields:
            text += "".join(f"    {_one_line(part)}\n" for part in str(fields["exception"]).splitlines())
        return text.encode(errors="replace")

    return line


class _Clock:
    """Times as RFC 3339 in UTC with microseconds; the whole second is formatted once for all its lines."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = -1
        self._text = b""

    def split(self, time: float) -> tuple[bytes, int]:
        """The whole second of `time` (since the epoch) up to its seconds, and the microseconds after it."""
        second = int(time)
        if second != self._second:
            self._text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()
            self._second = second
        return self._text, int((time - second) * 1_000_000)

    def timestamp(self, time: float) -> str:
        second, micros = self.split(time)
        return f"{second.decode()}.{micros:06d}Z"


def _one_line(text: str) -> str:
    """Control characters escaped: text of others cannot start a line of its own, nor steer a terminal."""
    return text if text.isprintable() else json.dumps(text)[1:-1]


def _word(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if text and _BARE.issuperset(text) else json.dumps(text) if isinstance(value, str) else text
