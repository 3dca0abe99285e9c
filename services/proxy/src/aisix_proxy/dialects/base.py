"""The shape of a dialect: what one kind of client speaks. A dialect knows canonical types, never a provider."""

from collections.abc import Callable, Mapping
from typing import Protocol

from ..canonical.answer import Answer
from ..canonical.errors import GatewayError, UpstreamError
from ..canonical.request import Message, Request
from ..canonical.target import Target
from ..canonical.usage import Usage


class Relay(Protocol):
    """Passes a stream of the dialect's own language through, changing only what the contract makes ours (design 4.1).

    `feed` returns the bytes for the caller and does not raise. `failed` is set once the provider reported an error
    inside the stream or sent what cannot be read; nothing after what that `feed` returned is to be sent but
    `Dialect.stream_error`, and later bytes are ignored (as they are once `ended` is set).
    """

    usage: Usage | None
    failed: UpstreamError | None
    ended: bool
    """The provider's end marker was seen."""
    events: int
    """How many data events were passed on to the caller."""

    @property
    def finish_reasons(self) -> tuple[str, ...]:
        """One a choice, as they were seen."""
        ...

    @property
    def owes_usage(self) -> bool:
        """The answer has ended, the caller asked for its usage and the provider told none: the end marker is held
        back for `end_with`."""
        ...

    def end_with(self, usage: Usage | None) -> bytes:
        """The end of an answer that owes its usage, with our own count, which becomes `usage`; None: there is none."""
        ...

    def feed(self, data: bytes) -> bytes: ...

    def finish(self) -> bytes:
        """The upstream closed: what is still due to the caller. Raises UpstreamError when the answer was cut off."""
        ...

    def produced_tokens(self, count: Callable[[str], int]) -> int:
        """Tokens of all text passed on so far, `count` being a tokenizer; for where the provider reports no usage.

        May be costly. Memory is bounded: past 256 Ki characters the rest is extrapolated from what was kept.
        """
        ...


class Dialect(Protocol):
    """One client language."""

    name: str

    def read(self, body: bytes) -> Request:
        """Raises BadRequest naming the path, never echoing a value."""
        ...

    def messages(self, request: Request) -> tuple[Message, ...]:
        """The prompt, read when somebody needs it (counting, guardrails); costs a parse."""
        ...

    def answer(self, request: Request, answer: Answer, usage: Usage) -> bytes:
        """The body of a buffered answer; `usage` may be our own count where the provider sent none."""
        ...

    def relay(self, request: Request, target: Target) -> Relay:
        """`target` gives the reasoning field, and the credential that must not be echoed in an error."""
        ...

    def error(self, error: GatewayError) -> tuple[bytes, Mapping[str, str]]:
        """The body and extra headers of an error answer."""
        ...

    def stream_error(self, error: GatewayError) -> bytes:
        """The bytes that tell of an error after the response head was sent."""
        ...
