"""HTTP as plain values, between the adapters (which only compute) and the upstream client (which only moves bytes)."""

import msgspec


class Origin(msgspec.Struct, frozen=True):
    """Where a provider is reached. Hashable: connection pools are kept per origin."""

    scheme: str
    """`http` or `https`."""
    host: str
    """A name or an IP literal, without brackets."""
    port: int

    @property
    def authority(self) -> str:
        """The Host header: brackets around IPv6, the port only where it is not the scheme's own (RFC 9110, 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        return host if self.port == default else f"{host}:{self.port}"


class TlsTrust(msgspec.Struct, frozen=True):
    """How a provider's certificate is checked, beyond the deployment's own settings."""

    ca_pem: str = ""
    """Extra trust anchors in PEM, added to the system's."""
    verify: bool = True


class UpstreamRequest(msgspec.Struct, frozen=True):
    """One request to a provider, complete but for framing headers (Host, Content-Length), which the client writes."""

    origin: Origin
    method: str
    path: str
    """Origin-form target with its query."""
    headers: tuple[tuple[str, str], ...]
    body: bytes
    trust: TlsTrust | None = None


class UpstreamResponse(msgspec.Struct, frozen=True):
    """A buffered answer. Header names are lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes
