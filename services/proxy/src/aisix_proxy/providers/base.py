"""The shape of a provider adapter: the sans-IO codec of one wire. Adapters do not know each other, nor any dialect."""

from collections.abc import Mapping
from typing import Protocol

from ..canonical.answer import Answer
from ..canonical.errors import UpstreamError
from ..canonical.events import Event
from ..canonical.http import Origin, UpstreamRequest, UpstreamResponse
from ..canonical.operation import Operation
from ..canonical.request import Request
from ..canonical.target import Target


class CallContext(Protocol):
    """What an adapter may know about the exchange beside the request itself."""

    @property
    def request_id(self) -> str:
        """The id minted by us; sent upstream as `x-aisix-request-id`."""
        ...

    @property
    def caller_headers(self) -> Mapping[str, str]:
        """The caller's headers (case-insensitive), for `forward_client_headers`."""
        ...

    def variable(self, name: str) -> str | None:
        """The value of a header template's variable such as `request.api_key.id`; None when it has none."""
        ...


class StreamDecoder(Protocol):
    """Turns a provider's stream bytes, however cut, into events.

    Whatever the bytes are, `feed` does not raise: what cannot be read becomes a last StreamFailed, and bytes after it
    (or after StreamEnded) are ignored.
    """

    def feed(self, data: bytes) -> list[Event]: ...

    def finish(self) -> list[Event]:
        """The upstream closed. Raises UpstreamAborted when an answer was cut off."""
        ...


class Adapter(Protocol):
    """One wire."""

    wire: str
    operations: frozenset[Operation]
    native: frozenset[str]
    """Dialects whose bytes may pass through (design 4.1)."""

    def address(self, provider: str, api_base: str | None) -> tuple[Origin, str]:
        """Where a provider key leads: the origin, and the path in front of the endpoint without a trailing slash.

        `provider` is the provider key's vendor word, `api_base` as the operator wrote it. Raises Misconfigured (400)
        naming the rule; the address itself is never echoed, for it may hold a credential.
        """
        ...

    def encode(self, request: Request, target: Target, context: CallContext) -> UpstreamRequest:
        """Raises Misconfigured when the target cannot be addressed (bad credential, bad base)."""
        ...

    def answer(self, request: Request, response: UpstreamResponse, target: Target) -> Answer:
        """Read a 2xx. Raises UpstreamProtocol, or UpstreamInBand for an error object; the credential is blanked out."""
        ...

    def stream(self, request: Request, target: Target) -> StreamDecoder: ...

    def error(self, response: UpstreamResponse, target: Target) -> UpstreamError:
        """Read a non-2xx (its body already cut to 64 KiB); never raises. The target's credential is blanked out."""
        ...
