"""Trouble that is told once, and its end."""

from aisix_common.logs import Logger


class Told:
    """Of one kind of trouble: `began` logs a warning, the first time; `ended` that it is over."""

    def __init__(self, log: Logger, began: str, ended: str) -> None:
        self._log = log
        self._began = began
        self._ended = ended
        self.trouble = ""
        """What it is; empty: there is none."""

    def began(self, reason: str) -> None:
        """`reason` is for operators, and holds no secret."""
        if not self.trouble:
            self._log.warning(self._began, error=reason)
        self.trouble = reason or self._began

    def ended(self) -> None:
        """It went well."""
        if self.trouble:
            self._log.info(self._ended)
        self.trouble = ""
