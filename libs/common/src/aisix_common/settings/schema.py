"""The whole of `config.yaml` as one frozen type: `Settings`."""

from typing import Annotated

from .control import Managed, Secrets
from .listeners import Admin, Downstream, Proxy, Shutdown
from .observability import Observability
from .outbound import Upstream
from .storage import Cache, Etcd, RateLimit
from .values import Later, Section, Text


class Settings(Section, frozen=True, kw_only=True):
    """Everything an operator can set. Read once at start, never reloaded."""

    resources_file: Text | None = None
    """Load resources from this YAML file instead of etcd; SIGHUP reads it again. Excludes `etcd.endpoints`."""
    bedrock_endpoint_url: Annotated[str | None, Later("Bedrock guardrails")] = None
    """Endpoint of the Bedrock guardrail API for the whole gateway; blank means AWS's own."""
    proxy: Proxy
    admin: Admin = Admin()
    etcd: Etcd = Etcd()
    upstream: Upstream = Upstream()
    downstream: Downstream = Downstream()
    shutdown: Shutdown = Shutdown()
    observability: Observability = Observability()
    managed: Managed = Managed()
    secrets: Secrets = Secrets()
    cache: Annotated[Cache, Later("response caches")] = Cache()
    ratelimit: Annotated[RateLimit, Later("rate limits")] = RateLimit()

    @property
    def admin_binds(self) -> bool:
        """Whether an admin service belongs to this gateway."""
        return self.admin.enabled and not self.managed.enabled
