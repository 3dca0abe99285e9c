"""`etcd`, `cache`, `ratelimit`: where state is kept."""

from typing import Literal

from .outbound import ClientTls
from .values import Count, PositiveMillis, Sealed, Section, Text


class EtcdTls(Section, frozen=True, kw_only=True):
    """Mutual TLS towards etcd."""

    ca_cert_file: Text
    """PEM file with the certificate authorities that etcd's certificate is checked against."""
    client_cert_file: Text
    """PEM file with our certificate."""
    client_key_file: Text
    """PEM file with our private key."""
    domain_name: str | None = None
    """The name etcd's certificate must carry. Default: the host of the first endpoint."""


class Etcd(Section, frozen=True, kw_only=True):
    """The etcd that resources are read from."""

    endpoints: tuple[Text, ...] = ()
    """`http://host:port`, `https://host:port` or `host:port`, one for each member. Needed unless `resources_file` is
    set."""
    prefix: str = "/aisix"
    """The root of all resource keys. Nothing else may lie under it."""
    env_id: str = ""
    """Restricts this gateway to one environment: keys are then read from `<prefix>/<env_id>/`."""
    user: str | None = None
    """User name; used together with `password_env` only."""
    password_env: str | None = None
    """Name of the environment variable that holds the password."""
    dial_timeout_ms: PositiveMillis = 5000
    """Milliseconds a connection attempt may take."""
    request_timeout_ms: PositiveMillis = 5000
    """Milliseconds one request may take."""
    tls: EtcdTls | None = None
    """Mutual TLS; its three files are needed together."""

    @property
    def resource_root(self) -> str:
        """Under which resources lie, without a trailing slash: `/aisix` or `/aisix/<env_id>`."""
        root = self.prefix.rstrip("/")
        return f"{root}/{self.env_id}" if self.env_id else root

    @property
    def ext_root(self) -> str:
        """Under which kinds lie that other gateways on the same etcd do not know: `/ext/aisix`."""
        return f"/ext/{self.resource_root.lstrip('/')}"

    @property
    def run_root(self) -> str:
        """Under which the services keep state of their own: `/run/aisix`."""
        return f"/run/{self.resource_root.lstrip('/')}"


class Redis(Section, frozen=True, kw_only=True):
    """A Redis server, cluster, or set of sentinels."""

    mode: Literal["single", "cluster", "sentinel"] = "single"
    """Which of the three it is."""
    url: Sealed | None = None
    """`redis://` or `rediss://` address; needed in mode `single`. It may carry a password and is never shown."""
    nodes: tuple[Text, ...] = ()
    """Addresses of cluster nodes; at least one in mode `cluster`."""
    sentinels: tuple[Text, ...] = ()
    """Addresses of the sentinels; at least one in mode `sentinel`."""
    master_name: str | None = None
    """Name the sentinels know the master by; needed in mode `sentinel`."""
    username: str | None = None
    """User name on the data node."""
    password: Sealed | None = None
    """Password on the data node."""
    database: int | None = None
    """Number of the database on the data node."""
    tls: ClientTls | None = None
    """TLS towards Redis."""


class Cache(Section, frozen=True, kw_only=True):
    """Response caches."""

    backend: Literal["memory", "redis"] = "memory"
    """Kept from older configurations: `redis` needs `cache.redis`; cache policies decide what is used."""
    redis: Redis | None = None
    """The Redis that cache policies may name."""


class RateLimit(Section, frozen=True, kw_only=True):
    """Where limits are counted."""

    backend: Literal["memory", "redis"] = "memory"
    """`memory` counts in each process; `redis` counts across the fleet and needs `ratelimit.redis`."""
    concurrency_ttl_secs: Count = 300
    """Seconds after which a slot that was never given back is free again; used with Redis, where it must not be 0."""
    redis: Redis | None = None
    """The Redis that counts; ignored with backend `memory`."""
