"""One client request from its first to its last byte, as the stages see it.

Plain values only: no framework request, no socket. Whoever accepts requests (today `endpoints/_edge.py`) fills in the
first group of fields and a `Downstream`; each further group belongs to the stage named beside it.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
from multidict import CIMultiDictProxy

from ..canonical.errors import GatewayError
from ..canonical.request import Request
from ..canonical.usage import NO_USAGE, Usage
from ..compiled import Compiled, CompiledKey
from ..compiled_model import CompiledModel
from ..dialects.base import Relay
from ..upstream.client import UpstreamStream
from .endpoint import Endpoint
from .exits import Exits

if TYPE_CHECKING:
    from .services import Services

CLIENT_GONE: Final = 499
"""The status of an exchange whose caller left (data-plane 10.2)."""


class Inbound(msgspec.Struct, frozen=True):
    """What the caller sent, without its body. Header names are case-insensitive."""

    method: str
    path: str
    query: str
    headers: CIMultiDictProxy[str]
    peer: str
    """The address at the other end of the connection; `""` when the transport has none."""
    request_id: str
    """Minted by us."""
    caller_request_id: str | None = None
    """The acceptable id the caller chose, if any (data-plane 12.1)."""

    @property
    def shown_request_id(self) -> str:
        """What the caller is told: its own id where it sent one."""
        return self.caller_request_id or self.request_id


class Downstream(Protocol):
    """The caller's connection, for exactly one answer. Writing never blocks; `drain` waits for a slow reader."""

    committed: bool
    """The response head was sent: an error can no longer change the status."""

    def send(self, status: int, headers: bytes, body: bytes) -> None:
        """A whole answer in one write. `headers` are complete lines, each with its CRLF; length is added here."""
        ...

    def begin(self, status: int, headers: bytes) -> None:
        """The head of a stream. It goes out together with the first bytes, or with `push`."""
        ...

    def push(self) -> None:
        """Nothing is there to write yet: send the head alone, if it has not been sent."""
        ...

    def write(self, data: bytes) -> None: ...

    def finish(self, last: bytes = b"") -> None:
        """The stream is complete with `last`."""
        ...

    @property
    def paused(self) -> bool:
        """The reader is slower than we are: await `drain` before writing on."""
        ...

    @property
    def unsent(self) -> int:
        """Bytes written that wait for the reader; it has taken some when they are fewer."""
        ...

    async def drain(self) -> None: ...

    def abort(self) -> None:
        """Drop the connection at once, whatever is still unsent."""
        ...


class Reply(msgspec.Struct, frozen=True):
    """A complete answer. `headers` are complete lines, each with its CRLF."""

    status: int
    headers: bytes
    body: bytes


class Streaming(msgspec.Struct, frozen=True):
    """An answer that is still being produced."""

    upstream: UpstreamStream
    relay: Relay
    first: bytes
    """What was read already, before the head was committed; `b""` when nothing was."""


class Attempt:
    """One try on a target. Times are of the monotonic clock, in seconds."""

    __slots__ = ("ended", "error", "kind", "model", "started", "status")

    def __init__(self, model: CompiledModel, kind: str) -> None:
        self.model = model
        self.kind = kind
        """`initial` or `retry` (data-plane 10.3)."""
        self.started = time.monotonic()
        self.ended = 0.0
        """When its head (stream) or its whole answer (buffered) was there, or when it failed."""
        self.status = 0
        """What the provider answered; 0: nothing."""
        self.error: GatewayError | None = None

    def answered(self, status: int) -> None:
        self.status = status
        self.ended = time.monotonic()

    def fail(self, error: GatewayError) -> None:
        self.error = error
        self.ended = time.monotonic()


class Exchange:
    """The state of one request. Stages say in their docstrings which of these fields they write."""

    __slots__ = (
        "answer",
        "answer_model",
        "attempts",
        "billed",
        "caller_request_id",
        "client_gone",
        "client_ip",
        "compiled",
        "downstream",
        "endpoint",
        "error",
        "exits",
        "finish_reasons",
        "first_byte",
        "inbound",
        "key",
        "model",
        "provider_request_id",
        "read_body",
        "relay",
        "request",
        "request_id",
        "requested_model",
        "services",
        "started",
        "status",
        "targets",
        "usage",
    )

    def __init__(
        self,
        services: "Services",
        endpoint: Endpoint,
        inbound: Inbound,
        read_body: Callable[[], Awaitable[bytes]],
        downstream: Downstream,
    ) -> None:
        # the edge
        self.services = services
        self.compiled: Compiled = services.live.compiled
        self.endpoint = endpoint
        self.inbound = inbound
        self.read_body = read_body
        self.downstream = downstream
        self.started = time.monotonic()
        self.request_id = inbound.request_id
        """Minted by us: what usage events and the log are counted by."""
        self.caller_request_id = inbound.caller_request_id
        self.client_ip = services.address_rule.resolve(inbound.peer, inbound.headers)
        self.exits = Exits()
        # authenticate
        self.key: CompiledKey | None = None
        # read_request, resolve_model, plan_targets
        self.request: Request | None = None
        self.requested_model = ""
        self.model: CompiledModel | None = None
        self.targets: tuple[CompiledModel, ...] = ()
        # call_upstream, or a stage that answers itself
        self.attempts: list[Attempt] = []
        self.answer: Reply | Streaming | None = None
        self.answer_model = ""
        self.provider_request_id = ""
        self.finish_reasons: tuple[str, ...] = ()
        """Of a buffered answer known, as `answer_model`, only where usage events tell them."""
        self.usage: Usage = NO_USAGE
        self.relay: Relay | None = None
        """What counts a stream's events, usage and text on their way."""
        # deliver, runner
        self.first_byte = 0.0
        self.status = 0
        self.error: GatewayError | None = None
        self.client_gone = False
        # settlement
        self.billed = False
        """Its usage events were recorded; never twice."""

    @property
    def caller_headers(self) -> Mapping[str, str]:
        """`CallContext`: for `forward_client_headers`."""
        return self.inbound.headers

    def variable(self, name: str) -> str | None:
        """`CallContext`: the value of a header template's variable (data-plane 4.0); None when it has none."""
        if name == "request.id":
            return self.request_id
        scope, _, field = name.partition(".")
        if scope == "api_key" or name.startswith("request.api_key."):
            field = name.rpartition(".")[2]
            return self.key.variable(field) if self.key else None
        model = self.attempts[-1].model if self.attempts else self.model
        return model.variable(scope, field) if model else None
