"""Reads a provider's chat.completion.chunk events into canonical ones: for whoever must understand a stream.

Callers that speak the same language get the bytes from the dialect's relay instead; both must agree on what they heard
(tests/wire).
"""

from collections.abc import Iterator
from typing import Final

from ..canonical.errors import UpstreamAborted, UpstreamError, UpstreamProtocol
from ..canonical.events import (
    ChoiceFinished,
    Event,
    ReasoningProduced,
    Started,
    StreamEnded,
    StreamFailed,
    TextProduced,
    ToolCallProduced,
    UsageReported,
)
from ..canonical.target import Target
from ..wire.members import Malformed, join_members, read_members
from ..wire.openai_chat import (
    DONE,
    Body,
    Choice,
    choice_index,
    finish_reason,
    name_of,
    read_answer,
    read_usage,
    reasoning_of,
    text_of,
    tool_calls_of,
)
from ..wire.openai_reasoning import REASONING, reasoning_path, show_reasoning
from ..wire.sse import SseDecoder, SseEvent

EVENT_LIMIT: Final = 1 << 20
"""Bytes of one event; more is no chunk, but somebody who fills our memory."""


class OpenAIStream:
    """providers/base.py, StreamDecoder. The target's credential is blanked out of errors and names."""

    def __init__(self, target: Target) -> None:
        self._credential = target.credential
        self._reasoning = reasoning_path(target.reasoning_field)
        self._sse = SseDecoder(max_event=EVENT_LIMIT)
        self._started = False
        self._finished = False
        self._over = False

    def feed(self, data: bytes) -> list[Event]:
        if self._over:
            return []
        try:
            return self._read(self._sse.feed(data))
        except UpstreamError as error:
            self._over = True
            return [StreamFailed(error)]

    def finish(self) -> list[Event]:
        if self._over:
            return []
        events = self._read(self._sse.finish())
        if events and isinstance(events[-1], StreamFailed) and isinstance(events[-1].error, UpstreamProtocol):
            events.pop()  # half an event is no event: what matters is whether the answer was complete without it
            self._over = False
        if not self._over and not self._finished:
            raise UpstreamAborted
        self._over = True
        return events

    def _read(self, frames: list[SseEvent]) -> list[Event]:
        events: list[Event] = []
        for frame in frames:
            if frame.data.strip() == DONE:
                self._over = True
                events.append(StreamEnded())
                break
            try:
                events += self._chunk(read_answer(self._usual(frame.data), self._credential))
            except UpstreamError as error:
                self._over = True
                events.append(StreamFailed(error))
                break
        return events

    def _usual(self, data: bytes) -> bytes:
        """A chunk with its thinking where it usually is. Raises UpstreamProtocol."""
        if self._reasoning == REASONING:  # read_answer looks there by itself
            return data
        try:
            members = read_members(data)
            show_reasoning(members, "delta", self._reasoning)
        except Malformed as malformed:
            raise UpstreamProtocol(str(malformed)) from None
        return join_members(members)

    def _chunk(self, chunk: Body) -> Iterator[Event]:
        if not self._started:
            self._started = True
            yield Started(
                id=name_of(chunk.id, self._credential),
                model=name_of(chunk.model, self._credential),
            )
        for choice in chunk.choices or ():
            yield from self._choice(choice)
        if usage := read_usage(chunk.usage):
            yield UsageReported(usage)

    def _choice(self, choice: Choice) -> Iterator[Event]:
        index = choice_index(choice)
        if (delta := choice.delta) is not None:
            if reasoning := reasoning_of(delta):
                yield ReasoningProduced(index, reasoning)
            if text := text_of(delta.content) + text_of(delta.refusal):
                yield TextProduced(index, text)
            for call in tool_calls_of(delta):
                yield ToolCallProduced(index, call.index, call.id, call.name, call.arguments)
        if reason := finish_reason(choice, self._credential):
            self._finished = True
            yield ChoiceFinished(index, reason)
