"""The upstream client: sends an `UpstreamRequest` over a pooled connection and hands back the answer.

It stands under the pipeline and on top of connection, pool, dial and trust. It must not know what a provider's bytes
mean, never follows a redirect, never retries beyond one stale pooled connection, and logs no request.
"""

from collections.abc import Mapping
from typing import Protocol

from ..canonical.http import UpstreamRequest, UpstreamResponse


class TlsSettings(Protocol):
    """`upstream.tls` of the settings."""

    @property
    def ca_file(self) -> str | None: ...
    @property
    def client_cert_file(self) -> str | None: ...
    @property
    def client_key_file(self) -> str | None: ...
    @property
    def verify(self) -> bool: ...


class UpstreamSettings(Protocol):
    """What this package reads of `settings.upstream` (control-plane 1.3)."""

    @property
    def connect_timeout_ms(self) -> int: ...
    @property
    def tcp_keepalive_secs(self) -> int: ...
    @property
    def tcp_keepalive_interval_secs(self) -> int: ...
    @property
    def tcp_keepalive_retries(self) -> int: ...
    @property
    def pool_idle_timeout_secs(self) -> int: ...
    @property
    def pool_max_idle_per_host(self) -> int | None: ...
    @property
    def tls(self) -> TlsSettings: ...


class UpstreamStream:
    """An answer whose head has come and whose body is still coming."""

    status: int
    headers: dict[str, str]
    """Lower-case names; a repeated header is joined by `, `."""

    async def read(self, wait: float | None) -> bytes | None:
        """All body bytes that are here now; b"" at the end; None when nothing came within `wait` seconds (None: no limit).

        Raises UpstreamAborted when the connection broke before the body was complete, UpstreamProtocol when its framing
        cannot be read. Bytes that came before the break are returned first. A cancelled read closes the connection.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Give the stream up: an unfinished connection is cut at once. Harmless after the end, and twice."""
        raise NotImplementedError


class UpstreamClient:
    """One per worker process. Must be made and used on one event loop."""

    open_connections: int
    """Established connections, idle and in use."""
    idle: int
    in_use: int

    def __init__(self, settings: UpstreamSettings) -> None:
        """`settings.upstream`. Raises ConfigurationError when a file of `upstream.tls` cannot be used."""
        raise NotImplementedError

    async def send(self, request: UpstreamRequest, *, timeout: float | None, max_body: int) -> UpstreamResponse:
        """Send and read the whole answer.

        `timeout`: seconds for everything from connecting to the last byte; None: no limit. `max_body`: bytes.
        Raises UpstreamTimeout, UpstreamUnreachable, UpstreamProtocol; Misconfigured when the request itself cannot be
        put on a wire (CR, LF or NUL in a header). A cancelled send closes its connection at once.
        """
        raise NotImplementedError

    async def open(self, request: UpstreamRequest, *, timeout: float | None) -> UpstreamStream:
        """Send and wait for the answer's head. `timeout`: seconds for connecting and the head. Raises as `send` does."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close every connection; waits at most two seconds for the transports to end."""
        raise NotImplementedError

    def gauges(self) -> Mapping[str, int]:
        raise NotImplementedError
