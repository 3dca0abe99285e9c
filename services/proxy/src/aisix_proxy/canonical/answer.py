"""What the pipeline hands to the delivery loop when the provider's answer was buffered."""

from collections.abc import Callable

import msgspec

from .usage import Usage


class Told(msgspec.Struct, frozen=True):
    """What an answer tells of itself: for counting, guardrails and usage events."""

    text: str = ""
    """All produced text (and tool arguments)."""
    finish_reasons: tuple[str, ...] = ()
    id: str = ""
    model: str = ""
    """The model the provider says it used."""


class Answer:
    """A complete answer in the wire's own fields, so that what nobody understands survives byte for byte."""

    __slots__ = ("_tell", "fields", "usage")

    def __init__(self, fields: dict[str, msgspec.Raw], usage: Usage | None, tell: Callable[[], Told]) -> None:
        """`tell` is the adapter's closer look at an answer that it found to be sound; called when somebody asks."""
        self.fields = fields
        self.usage = usage
        """None: the provider sent none, and somebody must count."""
        self._tell = tell

    def told(self) -> Told:
        """Read anew at each call: most answers are passed on without anybody asking."""
        return self._tell()
