"""`proxy`, `admin`, `downstream`, `shutdown`: the listeners, what they accept, and how they stop."""

from typing import Annotated, Literal

from .values import (
    Address,
    AdminName,
    Bind,
    Count,
    Days,
    Header,
    Later,
    Network,
    NoEffect,
    OptionalBaseUrl,
    OptionalBind,
    Sealed,
    Section,
    Text,
    Versions,
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


class AdminKey(Section, frozen=True, kw_only=True):
    """One admin key with a name; exactly one of `key`, `key_file` and `key_env` says what it is."""

    name: AdminName | None = None
    """Who uses it, for the log and the audit: 1 to 64 letters, digits, dots, dashes, underscores and `@`, and each name
    once. `key-<position in the list>` where it is left out."""
    key: Sealed | None = None
    """The key itself."""
    key_file: Text | None = None
    """File that holds the key; white space around it is ignored. It must be readable at start. A changed file is taken
    up within a second, and the key that was in it before is refused from then on; while it cannot be read, or is blank,
    the last key that was read is used on."""
    key_env: Text | None = None
    """Environment variable that holds the key; read at start. Not one that begins with `AISIX_` and has `__` in it:
    those are settings."""
    role: Literal["admin", "viewer"] = "admin"
    """An `admin` may do everything; a `viewer` writes nothing, and sees nothing that is sensitive."""


class Admin(Section, frozen=True, kw_only=True):
    """The listener operators talk to. It is never bound in managed mode."""

    enabled: bool = True
    """Whether the admin service runs at all."""
    addr: Bind = Address("127.0.0.1", 0)
    """Where the admin API listens. The default is reachable from this machine only, on a port the system chooses."""
    admin_keys: tuple[Sealed | AdminKey, ...] = ()
    """Keys that open the admin API; at least one where it is bound. Each is the key itself, or a map that names it and
    says where it is kept. Put keys into the environment or files of their own rather than into this file. The
    variable holds keys between commas, or a JSON list (which begins with `[`) of keys and maps."""
    tls: ListenerTls | None = None
    """Serve HTTPS with this certificate instead of plain HTTP."""
    metrics_addr: OptionalBind = Address("0.0.0.0", 9091)  # noqa: S104 - Prometheus scrapes from elsewhere
    """Where the admin's metrics are served; blank for nowhere. `aisix` turns it off for the admin it starts."""
    playground_proxy_url: OptionalBaseUrl = None
    """Base URL of the proxy's public listener, such as `http://aisix-proxy:3000`: `POST /playground/chat/completions`
    of the admin listener relays chats there, with the caller's own key. Blank: there is no playground."""
    history_versions: Versions = 20
    """Versions of each resource that are kept for its history and for rollbacks."""
    audit_days: Days = 90
    """Days the audit of changes is kept; the oldest entries go earlier where there are too many."""


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
