"""Structured logs: `get_logger` for ordinary lines, `LogWriter.record` for the cheap ones written per request.

`writer` the bounded queue and its thread, `rendering` lines as JSON or text with secrets masked, `setup` structlog and
stdlib logging routed into the one writer of the process. Knows nothing of HTTP or of what is logged.
"""

from .setup import Logger, configure, get_logger
from .writer import LogWriter

__all__ = ["LogWriter", "Logger", "configure", "get_logger"]
