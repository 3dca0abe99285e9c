"""structlog and stdlib logging, both ending in the one `LogWriter` of the process."""

from typing import TypeAlias

import structlog

from ..settings import Observability
from .writer import LogWriter

Logger: TypeAlias = structlog.typing.FilteringBoundLogger
"""What `get_logger` gives: `log.info("what happened", key=value)`, `log.exception(...)`."""


def get_logger(name: str) -> Logger:
    """A logger whose lines carry `logger=name`; it may be made at import, before `configure`.

    Values are keyword arguments. A `Secret` shows as `***`, bytes are refused.
    """
    logger: Logger = structlog.get_logger(logger=name)
    return logger


def configure(observability: Observability, *, service: str, worker: int | None = None) -> LogWriter:
    """Set up logging for this process and give its writer; every line carries `service` and, if given, `worker`.

    Level and form come from `log_level` (the first plain level of a list counts) and `log_format`.
    """
    raise NotImplementedError
