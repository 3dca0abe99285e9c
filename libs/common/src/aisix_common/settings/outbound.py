"""`upstream`: how the gateway talks to providers."""

from .values import Count, Count32, Millis, Probes, Section, Text


class ClientTls(Section, frozen=True, kw_only=True):
    """What the other side's certificate is checked against, and who we are."""

    ca_file: str | None = None
    """PEM file with certificate authorities trusted besides the system's."""
    client_cert_file: str | None = None
    """PEM file with our certificate; together with `client_key_file` only."""
    client_key_file: str | None = None
    """PEM file with our private key."""
    verify: bool = True
    """Whether certificates are checked. Turning this off sends provider keys to whoever answers."""


class Upstream(Section, frozen=True, kw_only=True):
    """Defaults for every provider; models may set their own timeouts."""

    timeout_ms: Millis = 6_000_000
    """Milliseconds a buffered answer may take in all; 0 means no limit."""
    stream_timeout_ms: Millis = 0
    """Milliseconds between two events of a stream; 0 means `timeout_ms`."""
    connect_timeout_ms: Millis = 5000
    """Milliseconds a connection attempt may take; 0 means no limit of ours."""
    tcp_keepalive_secs: Count = 60
    """Seconds of silence before TCP probes the other side; 0 turns probing off."""
    tcp_keepalive_interval_secs: Count = 30
    """Seconds between two probes; 0 leaves the system's value."""
    tcp_keepalive_retries: Probes = 5
    """Probes without an answer after which the connection is dead; 0 leaves the system's value."""
    pool_idle_timeout_secs: Count = 30
    """Seconds an unused connection is kept; 0 keeps it until the other side closes."""
    pool_max_idle_per_host: Count | None = None
    """Unused connections kept for each host. Default: as many as were opened."""
    retries: Count32 = 2
    """How often a failed attempt is repeated before the first byte was sent on."""
    metadata_hosts: tuple[Text, ...] = ()
    """Hosts that may be called although their address is link-local or a cloud's metadata service, as they stand in
    the URL: `169.254.10.20`, `proxy.internal`. No other such address is ever connected to."""
    tls: ClientTls = ClientTls()
