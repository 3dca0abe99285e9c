"""What OpenAI SDKs speak on /v1/chat/completions: reads requests, writes answers, passes streams through."""

from collections.abc import Callable, Mapping
from typing import Final

from ..canonical.answer import Answer
from ..canonical.errors import GatewayError, UpstreamError
from ..canonical.request import Message, Request
from ..canonical.target import Target
from ..canonical.usage import Usage


class OpenAIRelay:
    """A stream of chat.completion.chunk events on its way to the caller (dialects/base.py, Relay)."""

    def __init__(self, request: Request, target: Target) -> None:
        self.usage: Usage | None = None
        self.failed: UpstreamError | None = None
        self.ended = False
        self.finish_reasons: tuple[str, ...] = ()
        self.events = 0

    def feed(self, data: bytes) -> bytes:
        raise NotImplementedError

    def finish(self) -> bytes:
        raise NotImplementedError

    def produced_tokens(self, count: Callable[[str], int]) -> int:
        raise NotImplementedError


class OpenAIChat:
    """The dialect `openai-chat` (dialects/base.py, Dialect)."""

    name: str = "openai-chat"

    def read(self, body: bytes) -> Request:
        raise NotImplementedError

    def messages(self, request: Request) -> tuple[Message, ...]:
        raise NotImplementedError

    def answer(self, request: Request, answer: Answer, usage: Usage) -> bytes:
        raise NotImplementedError

    def relay(self, request: Request, target: Target) -> OpenAIRelay:
        return OpenAIRelay(request, target)

    def error(self, error: GatewayError) -> tuple[bytes, Mapping[str, str]]:
        raise NotImplementedError

    def stream_error(self, error: GatewayError) -> bytes:
        raise NotImplementedError
