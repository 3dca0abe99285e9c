"""What the pipeline hands to the delivery loop when the provider's answer was buffered."""

import msgspec

from .usage import Usage


class Answer(msgspec.Struct, frozen=True):
    """A complete answer in the wire's own fields, so that what nobody understands survives byte for byte."""

    fields: dict[str, msgspec.Raw]
    usage: Usage | None
    """None: the provider sent none, and somebody must count."""
    text: str
    """All produced text (and tool arguments), for counting and guardrails."""
    finish_reasons: tuple[str, ...] = ()
    id: str = ""
    model: str = ""
    """The model the provider says it used."""
