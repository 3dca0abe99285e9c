"""`managed` and `secrets`: the link to the Cloud, and what protects stored secrets."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from .values import (
    Address,
    Count,
    KeyId,
    KubernetesName,
    OptionalBaseUrl,
    OptionalBind,
    OptionalEndpoint,
    OptionalSealed,
    OptionalText,
    Parse,
    PositiveMillis,
    Ratio,
    Seconds,
    Section,
    Text,
    parse_heartbeat,
)


class Bootstrap(Section, frozen=True, kw_only=True):
    """How a certificate is got from a one-time token (docs/reference/cloud-protocol.md). Off without a token."""

    url: OptionalBaseUrl = None
    """Where it is asked for, `https://host[:port]`. Default: `cp_base_url`."""
    token: OptionalSealed = None
    """The one-time token."""
    token_file: OptionalText = None
    """File that holds the token; instead of `token`."""
    ca_file: OptionalText = None
    """PEM file with the authority that the Cloud's server is trusted by for this call; this or `ca_pin`."""
    ca_pin: OptionalText = None
    """SHA-256 of that authority's public key (SPKI), in hex or base64."""

    @property
    def wanted(self) -> bool:
        """Whether there is a token."""
        return self.token is not None or self.token_file is not None


class Usage(Section, frozen=True, kw_only=True):
    """How usage events wait for their delivery to the Cloud."""

    folder: str = "/var/lib/aisix/usage"
    """Folder of the proxy's journals: events are there before their request is over, and survive a restart."""
    flush_secs: Seconds = 5
    """Seconds after which a batch is passed on that has not got 100 events."""
    max_bytes: Count = 1024**3
    """Bytes of events that wait in a folder of journals at most; what is beyond is dropped, the oldest first, and
    counted."""
    max_age_secs: Seconds = 7 * 86_400
    """Seconds after which an event that could not be delivered is dropped, and counted."""


class Managed(Section, frozen=True, kw_only=True):
    """Managed mode: resources come from AISIX Cloud through the cloud agent, and the admin service never runs."""

    enabled: bool = False
    """Whether this gateway is managed. `etcd.endpoints` is then the local etcd, which the agent writes."""
    cp_base_url: OptionalBaseUrl = None
    """Base URL of the Cloud, `https://host[:port]`."""
    cp_etcd_endpoint: OptionalEndpoint = None
    """The Cloud's etcd API as bare `host:port`. Default: host and port of `cp_base_url`."""
    cp_ca_cert_file: OptionalText = None
    """PEM file with one more certificate authority that is trusted towards the Cloud."""
    cp_cert_pem: OptionalText = None
    """Our certificate as PEM text; goes with `cp_key_pem` and `cp_ca_pem`."""
    cp_key_pem: OptionalSealed = None
    """Our private key as PEM text."""
    cp_ca_pem: OptionalText = None
    """The Cloud's certificate authority as PEM text."""
    cp_cert_file: OptionalText = None
    """PEM file with our certificate; goes with `cp_key_file` and `cp_ca_file`."""
    cp_key_file: OptionalText = None
    """PEM file with our private key."""
    cp_ca_file: OptionalText = None
    """PEM file with the Cloud's certificate authority."""
    bootstrap: Bootstrap = Bootstrap()
    """A certificate from a one-time token."""
    renew: bool = False
    """Whether the agent has its certificate renewed by the Cloud; always so for one that came from a token."""
    mtls_dir: str = "/var/lib/aisix/mtls"
    """Folder the credential is kept in."""
    dp_id_file: str = "/var/lib/aisix/dp_id"
    """File this data plane's id is kept in."""
    kubernetes_secret: KubernetesName = ""
    """Kubernetes Secret that the credential is kept in instead of `mtls_dir`, as `<name>` in the agent's namespace or
    `<namespace>/<name>`."""
    kubernetes_lease: KubernetesName = ""
    """Kubernetes Lease that decides which agent leads, named the same way. Blank: a lock in the local etcd decides."""
    takeover: bool = False
    """Let the agent replace rows in the local etcd that it did not write, or that are another environment's."""
    shrink_share: Ratio = 0.3
    """Part of the local rows that one list of the Cloud may take away without being read a second time."""
    snapshot_cache_path: str = "/var/lib/aisix/snapshot.cache"
    """File the last applied resources are kept in, so that a proxy starts while etcd is away. Used in every mode
    with etcd, not only in managed mode; blank turns it off."""
    heartbeat_interval_secs: Annotated[int, Parse(parse_heartbeat, "whole number")] = 15
    """Seconds between two heartbeats; values outside 5 to 300 are moved to the nearer end."""
    budget_stale_max_secs: Count = 600
    """Seconds for which the Cloud's last word on a key's budget counts while it cannot be asked; after that the key's
    fail mode decides. Less than 40 counts as 40. `AISIX_DP_BUDGET_STALE_MAX_SECONDS`, as older gateways spell it, sets
    it too."""
    usage: Usage = Usage()
    """Usage events."""
    metrics_addr: OptionalBind = Address("0.0.0.0", 9092)  # noqa: S104 - scraped from elsewhere
    """Where the cloud agent's metrics and `/status/cloud` are served; blank for nowhere."""


class KeyringKey(Section, frozen=True, kw_only=True):
    """One key that stored secrets are encrypted with, from a file or an environment variable."""

    id: KeyId
    """The name stored beside every value it encrypted: 1 to 64 letters, digits, dots, dashes and underscores."""
    file: str | None = None
    """File that holds the key, 32 bytes in base64; exactly one of `file` and `env`. A change is noticed."""
    env: str | None = None
    """Environment variable that holds the key, 32 bytes in base64."""


class SecretProvider(Section, frozen=True, kw_only=True):
    """A secret manager that references may name."""

    id: Text
    """The name used in references: `$secret://<manager>/<id>/...`."""
    manager: Literal["vault", "aws", "azure", "gcp", "kubernetes"]
    """Which product it is."""
    options: Mapping[str, Any] = {}
    """What the manager needs, as in the fields of a `secret_providers` resource: address, region, role."""

    def __repr__(self) -> str:
        return f"SecretProvider({self.manager}/{self.id})"


class Secrets(Section, frozen=True, kw_only=True):
    """How secrets in resources are stored and where references may point."""

    keyring: tuple[KeyringKey, ...] = ()
    """The first key encrypts, all of them decrypt: prepend a key to rotate. Files are read again when they change."""
    local_key_file: str = "/var/lib/aisix/keyring.key"
    """Where `aisix --config` keeps a key of its own making, mode 0600, when `keyring` is empty and resources come from
    etcd; blank: it makes none."""
    allow_plaintext: bool = False
    """Store secrets unencrypted when there is no keyring; needed where other gateways read the same etcd. `aisix` then
    makes no key of its own."""
    env_allow: tuple[Text, ...] = ("AISIX_SECRET_*",)
    """Environment variables that `$env://` references may read; `*` matches anything."""
    env_in_managed: bool = False
    """Whether `$env://` references are followed in managed mode, where the Cloud writes them."""
    kubernetes_allow: tuple[Text, ...] = ("*/aisix-secret-*",)
    """Kubernetes Secrets that references may read, as `<namespace>/<name>`, whatever a provider allows; `*` matches
    anything."""
    service_account_hosts: tuple[Text, ...] = ("*.svc", "*.svc.cluster.local", "127.0.0.1", "localhost")
    """Hosts of Vaults that may be sent the service account token of the proxy's pod, to log in with; `*` matches
    anything. Whoever may write `secret_providers` must not be able to send it elsewhere."""
    providers: tuple[SecretProvider, ...] = ()
    """Secret managers known besides those in etcd."""
    refresh_secs: Seconds = 300
    """Seconds after which a secret from a manager is fetched again, up to a tenth earlier."""
    retry_secs: Seconds = 10
    """Seconds until a secret that could not be had is asked for again."""
    stale_max_secs: Count = 86_400
    """Seconds for which a secret is used on while its manager is away or refuses us; 0: not at all."""
    timeout_ms: PositiveMillis = 5000
    """Milliseconds one fetch from a manager may take."""
