"""The few lines the supervisor has to say, in the form the services' logs have, each in one write.

The logs of the services come from the services; this is no logger. Knows nothing of processes.
"""

import json
import os
from dataclasses import dataclass
from typing import Final, Literal

from aisix_common.clock import SYSTEM_CLOCK, Clock, rfc3339
from aisix_common.settings import Observability

Level = Literal["info", "warn", "error"]

_RANK: Final = ("trace", "debug", "info", "warn", "error", "off")


@dataclass(frozen=True, slots=True)
class Notes:
    """Writes notes to the file descriptor `fd`, as JSON or as text, from `threshold` upwards."""

    json: bool = False
    threshold: str = "info"
    fd: int = 2
    clock: Clock = SYSTEM_CLOCK

    def say(self, level: Level, message: str) -> None:
        """One line of log."""
        if _RANK.index(level) < _RANK.index(self.threshold):
            return
        moment = rfc3339(self.clock.now())
        if self.json:
            record = {"timestamp": moment, "level": level, "service": "aisix", "message": message}
            self._write(json.dumps(record, ensure_ascii=False))
        else:
            self._write(f"{moment} {level.upper():5} aisix: {message}")

    def fail(self, message: str) -> None:
        """Why the command ends; shown whatever the level, and as people expect it from a command."""
        self._write(message if message.startswith("Error: ") else f"Error: {message}")

    def _write(self, line: str) -> None:
        try:
            os.write(self.fd, f"{line}\n".encode(errors="backslashreplace"))
        except OSError:
            pass  # The terminal is gone; that is no reason to stop serving.


def notes_for(observability: Observability, fd: int = 2) -> Notes:
    """The notes that `observability` asks for."""
    plain = [part for part in observability.log_level.split(",") if "=" not in part]
    wants_json = observability.log_format == "json"
    if observability.log_format == "auto":
        wants_json = not os.isatty(fd)
    return Notes(json=wants_json, threshold=plain[-1] if plain else "info", fd=fd)
