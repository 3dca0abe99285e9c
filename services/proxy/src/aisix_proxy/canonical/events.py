"""What a provider's stream says, one fact at a time. Past tense: these things have happened."""

from typing import TypeAlias

import msgspec

from .errors import UpstreamError
from .usage import Usage


class Started(msgspec.Struct, frozen=True):
    """The first chunk: the provider's id and model of the answer."""

    id: str
    model: str


class TextProduced(msgspec.Struct, frozen=True):
    """More visible text of one choice."""

    choice: int
    text: str


class ReasoningProduced(msgspec.Struct, frozen=True):
    """More thinking of one choice."""

    choice: int
    text: str


class ToolCallProduced(msgspec.Struct, frozen=True):
    """A tool call began (`id` and `name` set) or its argument text grew."""

    choice: int
    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class ChoiceFinished(msgspec.Struct, frozen=True):
    """One choice is complete; `reason` in the OpenAI words (stop, length, tool_calls, content_filter, ...)."""

    choice: int
    reason: str


class UsageReported(msgspec.Struct, frozen=True):
    """The provider said what it counted."""

    usage: Usage


class StreamFailed(msgspec.Struct, frozen=True):
    """The provider reported an error inside the stream."""

    error: UpstreamError


class StreamEnded(msgspec.Struct, frozen=True):
    """The provider's end marker was seen (`[DONE]` on the openai wire)."""


Event: TypeAlias = (
    Started
    | TextProduced
    | ReasoningProduced
    | ToolCallProduced
    | ChoiceFinished
    | UsageReported
    | StreamFailed
    | StreamEnded
)
