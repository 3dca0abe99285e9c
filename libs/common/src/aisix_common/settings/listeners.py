"""`proxy`, `admin`, `downstream`, `shutdown`: the listeners, what they accept, and how they stop."""

from typing import Annotated

from .values import (
    Address,
    Bind,
    Count,
    Header,
    Later,
    Network,
    NoEffect,
    OptionalBind,
    Sealed,
    Section,
    Text,
    Workers,
)


class ListenerTls(Section, frozen=True, kw_only=True):
    """A static certificate for one listener; both files are needed."""

    cert_file: Text
    """PEM file with the certificate and its chain."""
    key_file: Text
    """PEM file with the private key."""


class RealIp(Section, frozen=True, kw_only=True):
    """How the caller's address is found behind load balancers. It is used for logs."""

    trusted_proxies: tuple[Network, ...] = ()
    """Peers whose `header` is believed. Empty: the address of the connection is the caller's."""
    recursive: bool = False
    """Skip every trusted address from the right of the header, instead of taking the last one."""
    header: Header = "x-forwarded-for"
    """The header that carries the caller's address."""


class RequestId(Section, frozen=True, kw_only=True):
    """Where the request id shown to callers comes from."""

    accept_headers: tuple[Header, ...] = ("x-aisix-request-id",)
    """Headers a caller may choose the id with; the first acceptable one wins, and an empty list always mints one.
    Headers that carry credentials or trace context cannot be listed."""


class UrlRewrite(Section, frozen=True, kw_only=True):
    """One rule that changes the path of a request before it is routed."""

    name: str | None = None
    """A name for logs."""
    match: Text
    """Regular expression on the raw, percent-encoded path; the first rule that matches is the only one applied."""
    rewrite: str
    """What the matched part becomes: `$1`, `$name` and `${name}` insert captures, `$$` a dollar sign."""


class Proxy(Section, frozen=True, kw_only=True):
    """The listener callers talk to."""

    addr: Bind
    """Where the proxy listens. There is no default: which network may reach the gateway is the operator's choice."""
    request_body_limit_bytes: Count = 0
    """Longest request body in bytes, answered with 413 above; 0 means no limit."""
    tls: ListenerTls | None = None
    """Serve HTTPS with this certificate instead of plain HTTP."""
    real_ip: RealIp = RealIp()
    request_id: RequestId = RequestId()
    thread_per_core: Annotated[bool | None, NoEffect("workers are processes here: set proxy.workers")] = None
    """Accepted for configurations written for other gateways."""
    workers: Workers = 1
    """Worker processes that share the listener. One is right where pods scale; on a machine of its own use one per
    core."""
    url_rewrites: Annotated[tuple[UrlRewrite, ...], Later("path rewriting")] = ()
    """Rules for the paths of the proxy listener, in order."""


class Admin(Section, frozen=True, kw_only=True):
    """The listener operators talk to. It is never bound in managed mode."""

    enabled: bool = True
    """Whether the admin service runs at all."""
    addr: Bind = Address("127.0.0.1", 0)
    """Where the admin API listens. The default is reachable from this machine only, on a port the system chooses."""
    admin_keys: tuple[Sealed, ...] = ()
    """Keys that open the admin API; at least one where it is bound. Put them into the environment rather than the
    file."""
    tls: ListenerTls | None = None
    """Serve HTTPS with this certificate instead of plain HTTP."""
    metrics_addr: OptionalBind = Address("0.0.0.0", 9091)  # noqa: S104 - Prometheus scrapes from elsewhere
    """Where the admin's metrics are served; blank for nowhere. `aisix` turns it off for the admin it starts."""
    playground_proxy_url: Annotated[str | None, Later("the playground")] = None
    """Base URL of the proxy's public listener, for the playground, such as `http://aisix-proxy:3000`."""


class Downstream(Section, frozen=True, kw_only=True):
    """How connections of callers are treated, on every listener."""

    idle_timeout_secs: Count = 0
    """Seconds a connection may idle between two requests; 0 means the listener's own bound: an hour on the proxy, 75
    seconds on the admin and the metrics listeners."""
    sse_keepalive_interval_secs: Count = 15
    """Seconds of silence in a stream after which a comment line keeps the connection open; 0 turns it off."""


class Shutdown(Section, frozen=True, kw_only=True):
    """What happens between SIGTERM and the end."""

    min_drain_secs: Count = 30
    """Seconds the listeners go on accepting after readiness turned false, so that load balancers notice. It is
    waited even when idle; 0 on a developer's machine."""
