"""The wire `openai`: OpenAI itself, and every base that speaks its chat completions API."""

from typing import Final

from ..canonical.answer import Answer
from ..canonical.errors import UpstreamError
from ..canonical.events import Event
from ..canonical.http import Origin, UpstreamRequest, UpstreamResponse
from ..canonical.operation import Operation
from ..canonical.request import Request
from ..canonical.target import Target
from .base import CallContext


class OpenAIStream:
    """Reads a stream of chat.completion.chunk events (providers/base.py, StreamDecoder)."""

    def feed(self, data: bytes) -> list[Event]:
        raise NotImplementedError

    def finish(self) -> list[Event]:
        raise NotImplementedError


class OpenAI:
    """The adapter `openai` (providers/base.py, Adapter)."""

    wire: str = "openai"
    operations: frozenset[Operation] = frozenset({Operation.CHAT})
    native: frozenset[str] = frozenset({"openai-chat"})

    def address(self, provider: str, api_base: str | None) -> tuple[Origin, str]:
        raise NotImplementedError

    def encode(self, request: Request, target: Target, context: CallContext) -> UpstreamRequest:
        raise NotImplementedError

    def answer(self, request: Request, response: UpstreamResponse) -> Answer:
        raise NotImplementedError

    def stream(self, request: Request, target: Target) -> OpenAIStream:
        raise NotImplementedError

    def error(self, response: UpstreamResponse, target: Target) -> UpstreamError:
        raise NotImplementedError
