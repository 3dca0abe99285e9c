"""structlog and stdlib logging, both ending in the one `LogWriter` of the process."""

import logging
import os
import traceback
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import structlog

from ..settings import Observability
from .rendering import json_line, redact, text_line
from .writer import LogWriter

Logger: TypeAlias = structlog.typing.FilteringBoundLogger
"""What `get_logger` gives: `log.info("what happened", key=value)`, `log.exception(...)`."""

OFF: Final = logging.CRITICAL + 10
LEVELS: Final = MappingProxyType(
    {
        "trace": logging.DEBUG,
        "debug": logging.DEBUG,
        "info": logging.INFO,
        "warn": logging.WARNING,
        "warning": logging.WARNING,
        "error": logging.ERROR,
        "off": OFF,
    }
)


def get_logger(name: str) -> Logger:
    """A logger whose lines carry `logger=name`; it may be made at import, before `configure`.

    Values are keyword arguments. A `Secret` shows as `***`, bytes are refused.
    """
    logger: Logger = structlog.get_logger(name)
    return logger


def level_of(log_level: str) -> int:
    """The number of the first plain level in a list such as `info,store=debug`; INFO when there is none."""
    plain = (part.strip().lower() for part in log_level.split(","))
    return next((LEVELS[part] for part in plain if part in LEVELS), logging.INFO)


def configure(observability: Observability, *, service: str, worker: int | None = None, fd: int = 1) -> LogWriter:
    """Set up logging for this process and give its writer.

    Every line carries `service` and, if given, `worker`; as JSON also `gateway`, which is `service_name`.

    Level and form come from `log_level` (the first plain level of a list counts) and `log_format`; `fd` is where the
    lines go. Replaces an earlier configuration, whose writer stays open until it is closed.
    """
    fixed: dict[str, Any] = {"service": service} if worker is None else {"service": service, "worker": worker}
    form = observability.log_format
    text = form == "text" or (form == "auto" and os.isatty(fd))
    level = level_of(observability.log_level)
    line = text_line(fixed) if text else json_line({**fixed, "gateway": observability.service_name})
    writer = LogWriter(line, fd=fd, records=level <= logging.INFO)
    _configure_structlog(writer, level)
    _configure_stdlib(writer, level)
    return writer


class _Sink:
    """What structlog takes for the wrapped logger: hands every line to the writer under its level."""

    def __init__(self, writer: LogWriter, name: str) -> None:
        self._writer = writer
        self._name = name

    def write(self, level: str, fields: Mapping[str, Any]) -> None:
        self._writer.put(level, {"event": fields.get("event", ""), "logger": self._name, **fields})

    debug = info = warning = error = critical = write


def _configure_structlog(writer: LogWriter, level: int) -> None:
    structlog.configure(
        processors=[_silence if level == OFF else _pass, structlog.processors.format_exc_info, redact, _hand_over],
        wrapper_class=structlog.make_filtering_bound_logger(min(level, logging.CRITICAL)),
        logger_factory=lambda name="": _Sink(writer, name),
        # Loggers are made at import, before this: a cached one would keep what was configured then.
        cache_logger_on_first_use=False,
    )


def _pass(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return event


def _silence(_logger: object, _method: str, _event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    raise structlog.DropEvent


def _hand_over(
    _logger: object, method: str, event: structlog.typing.EventDict
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return ("warn" if method == "warning" else method, event), {}


class _StdlibHandler(logging.Handler):
    """Routes what libraries log into our writer."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields: dict[str, Any] = {"event": record.getMessage(), "logger": record.name}
            if record.exc_info:
                fields["exception"] = "".join(traceback.format_exception(*record.exc_info)).rstrip()
        except Exception:  # noqa: BLE001 - a library's wrong format string is no reason to fail
            fields = {"event": "a log message that cannot be formatted", "logger": record.name}
        level = record.levelname.lower()
        self._writer.put("warn" if level == "warning" else level, redact(None, "", fields))


def _configure_stdlib(writer: LogWriter, level: int) -> None:
    """Libraries are heard from `warning` on; at our `debug` level, from `info` on."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _StdlibHandler)]:
        root.removeHandler(handler)
    root.addHandler(_StdlibHandler(writer))
    root.setLevel(logging.INFO if level <= logging.DEBUG else max(level, logging.WARNING))
