"""One line per finished request (data-plane 10.2), as one dict to the batched writer. Never holds a key or a body.

None for callers without a usable key: who has none must not be able to fill the log.
"""

import re
from typing import Any, Final, Protocol

MESSAGE: Final = "proxy request completed"
_ERROR_LIMIT: Final = 2048
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class LineSink(Protocol):
    """Where lines go: takes the dict as it is, never blocks."""

    def record(self, line: dict[str, Any]) -> None: ...


class AccessLog:
    """Writes access-log lines, unless `observability.access_log` is off."""

    __slots__ = ("_sink", "enabled")

    def __init__(self, sink: LineSink, *, enabled: bool) -> None:
        self._sink = sink
        self.enabled = enabled

    def write(self, line: dict[str, Any]) -> None:
        """`line` holds only what is known; its texts may come from the caller or the provider."""
        self._sink.record(line)


def tame(text: str) -> str:
    """`text` fit for a log line: control characters removed, at most 2048 characters."""
    return _CONTROL.sub("", text[: _ERROR_LIMIT * 2])[:_ERROR_LIMIT]
