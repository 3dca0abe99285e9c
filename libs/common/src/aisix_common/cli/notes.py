"""The few lines the supervisor has to say, in the form the services' logs have, each in one write.

What nobody reads is dropped: saying something never keeps the supervisor from doing something. The logs of the services
come from the services; this is no logger. Knows nothing of processes.
"""

import json
import os
from dataclasses import dataclass
from datetime import UTC
from typing import Final, Literal

from aisix_common.clock import SYSTEM_CLOCK, Clock
from aisix_common.settings import Observability
from aisix_common.streams import write_line

Level = Literal["info", "warn", "error"]

_RANK: Final = ("trace", "debug", "info", "warn", "error", "off")


@dataclass(frozen=True, slots=True)
class Notes:
    """Writes log lines from `threshold` upwards to `log_fd`, as JSON or as text, and last words to `error_fd`."""

    json: bool = False
    gateway: str = "aisix"
    threshold: str = "info"
    log_fd: int = 1
    error_fd: int = 2
    clock: Clock = SYSTEM_CLOCK

    def say(self, level: Level, message: str) -> None:
        """One line of log."""
        if _RANK.index(level) < _RANK.index(self.threshold):
            return
        moment = self.clock.now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        if self.json:
            record = {"time": moment, "level": level, "service": "aisix", "gateway": self.gateway, "message": message}
            write_line(self.log_fd, json.dumps(record, ensure_ascii=False, separators=(",", ":")))
        else:
            write_line(self.log_fd, f"{moment} {level:<7} aisix: {message}")

    def fail(self, message: str) -> None:
        """Why the command ends; shown whatever the level, in the form people expect from a command."""
        write_line(self.error_fd, message if message.startswith("Error: ") else f"Error: {message}")


def notes_for(observability: Observability, log_fd: int = 1) -> Notes:
    """The notes that `observability` asks for; of a list of levels the first one without a target counts."""
    plain = [part for part in observability.log_level.split(",") if "=" not in part]
    wants_json = observability.log_format == "json"
    if observability.log_format == "auto":
        wants_json = not os.isatty(log_fd)
    threshold = plain[0] if plain else "info"
    return Notes(json=wants_json, gateway=observability.service_name, threshold=threshold, log_fd=log_fd)
