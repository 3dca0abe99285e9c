"""The vocabulary the setting sections are written in: value types, text parsers and marks on fields.

A field's annotation says everything about it: its type, its bounds (`msgspec.Meta`), how its text becomes a value
(`Parse`) and whether anything uses it yet (`Later`, `NoEffect`). Knows no section and reads no file.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Any, Final, TypeAlias
from urllib.parse import urlsplit

import msgspec

from aisix_common.secret import Secret


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """One map of the configuration file. Field names are the file's keys."""


class Address(msgspec.Struct, frozen=True):
    """Where a listener binds: a literal IP address (no brackets) and a port; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Parse:
    """How the text of a field becomes its value. `parse` raises ValueError with the rule, never with the text."""

    parse: Callable[[str], Any]
    shape: str
    """What one writes into the file, for the reference page."""


@dataclass(frozen=True, slots=True)
class Later:
    """The field is read and checked, but what it controls is not built yet. Delete the mark when it is."""

    feature: str


@dataclass(frozen=True, slots=True)
class NoEffect:
    """The field is accepted so that configurations written for other gateways load; it never does anything here."""

    reason: str


_ADDRESS: Final = re.compile(r"(?:\[(?P<six>[^\[\]]+)\]|(?P<four>[^:\[\]]+)):(?P<port>[0-9]{1,5})")
_ADDRESS_RULE: Final = "must be an IP address and a port such as 127.0.0.1:3000 or [::1]:3000; names are not resolved"
_HEADER: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_DIRECTIVE: Final = re.compile(r"(?:[A-Za-z0-9_.:\-]+=)?(?:trace|debug|info|warn|warning|error|off)", re.IGNORECASE)
_PATH: Final = re.compile(r"[!-~]*")
_NAME: Final = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_KEY_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HOST_PORT: Final = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[^\s/:@\[\]?#]+):(?P<port>[0-9]{1,5})")
_LABEL: Final = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_KUBERNETES_NAME: Final = re.compile(rf"(?:{_LABEL}/)?(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_BASE_URL: Final = re.compile(r"(?i:https?)://[!-~]+")
_BASE_URL_RULE: Final = (
    "must be the http or https URL of a host, perhaps with a port and a path: no user, query or fragment"
)


def parse_address(text: str) -> Address:
    """`127.0.0.1:3000` or `[::1]:3000`; ValueError otherwise."""
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise ValueError(_ADDRESS_RULE)
    try:
        host = ip_address(match["six"] or match["four"])
    except ValueError:
        raise ValueError(_ADDRESS_RULE) from None
    if (host.version == 6) != (match["six"] is not None):
        raise ValueError(_ADDRESS_RULE)
    return Address(str(host), int(match["port"]))


def parse_optional_address(text: str) -> Address | None:
    """As `parse_address`; blank text means that the listener is off."""
    return parse_address(text) if text.strip() else None


def parse_network(text: str) -> IPv4Network | IPv6Network:
    """A CIDR block or a bare address (one host). Host bits are masked away."""
    try:
        return ip_network(text.strip(), strict=False)
    except ValueError:
        raise ValueError("must be an IP address or a block such as 10.0.0.0/8") from None


def parse_header(text: str) -> str:
    """The name of an HTTP header, in lower case."""
    if _HEADER.fullmatch(text) is None:
        raise ValueError("must be the name of an HTTP header")
    return text.lower()


def parse_metrics_path(text: str) -> str:
    """The path of the metrics page: trimmed, blank means `/metrics`, the leading slash may be missing."""
    path = text.strip()
    if not path:
        return "/metrics"
    if _PATH.fullmatch(path) is None or any(mark in path for mark in "?#{}"):
        raise ValueError("must be a URL path without query, spaces or braces")
    return path if path.startswith("/") else f"/{path}"


def parse_log_level(text: str) -> str:
    """One level, or a comma list of `level` and `target=level`, in lower case and with `warn` for `warning`."""
    parts = [part.strip() for part in text.split(",")]
    if not all(_DIRECTIVE.fullmatch(part) for part in parts):
        raise ValueError("must be one of trace, debug, info, warn, error, off, or a list such as info,store=debug")
    return ",".join(part.removesuffix("ing") if part.endswith("warning") else part for part in map(str.lower, parts))


def parse_admin_name(text: str) -> str:
    """The name of an admin key: safe in logs, labels and file names."""
    if _NAME.fullmatch(text) is None:
        raise ValueError("must be 1 to 64 letters, digits, dots, dashes, underscores or @")
    return text


def parse_optional_base_url(text: str) -> str | None:
    """The URL that paths are appended to, without slashes at its end; None for blank text."""
    text = text.strip()
    if not text:
        return None
    try:
        parts = urlsplit(text)
        good = bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or _BASE_URL.fullmatch(text) is None or any(mark in text for mark in "@?#\\"):
        raise ValueError(_BASE_URL_RULE)
    return text.rstrip("/")


def parse_not_blank(text: str) -> str:
    """Text with something in it, as it was written."""
    if not text.strip():
        raise ValueError("must not be blank")
    return text


def parse_secret(text: str) -> Secret:
    """A secret with something in it."""
    return Secret(parse_not_blank(text))


def parse_optional_secret(text: str) -> Secret | None:
    """A secret, or None for blank text: an environment that names every setting leaves some of them blank."""
    return Secret(text) if text.strip() else None


def parse_optional_text(text: str) -> str | None:
    """Text without spaces around it, or None for blank text."""
    return text.strip() or None


def parse_kubernetes_name(text: str) -> str:
    """`<name>` or `<namespace>/<name>` of an object in Kubernetes; "" for blank text."""
    text = text.strip()
    if text and _KUBERNETES_NAME.fullmatch(text) is None:
        raise ValueError("must be <name> or <namespace>/<name>, as Kubernetes writes them")
    return text


def parse_endpoint(text: str) -> str | None:
    """`host:port` without a scheme; None for blank text."""
    text = text.strip()
    match = _HOST_PORT.fullmatch(text)
    if text and (match is None or not 0 < int(match["port"]) < 65536):
        raise ValueError("must be host:port, without a scheme")
    return text or None


def parse_key_id(text: str) -> str:
    """The name of a key of the keyring: it stands inside of what the key encrypted."""
    if _KEY_ID.fullmatch(text) is None:
        raise ValueError("must be 1 to 64 letters, digits, dots, dashes and underscores")
    return text


def parse_heartbeat(text: str) -> int:
    """Whole seconds, clamped to 5..300."""
    if not re.fullmatch(r"[0-9]{1,19}", text.strip()):
        raise ValueError("must be a whole number of seconds")
    return min(max(int(text), 5), 300)


_MOST: Final = 2**63 - 1
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]
Count32: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
_LONGEST_MS: Final = 2**31 - 1  # 24 days; gRPC and socket options keep milliseconds in 32 bits
Millis: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=_LONGEST_MS)]
PositiveMillis: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=_LONGEST_MS)]
Workers: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=512)]
Probes: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=127)]  # TCP_KEEPCNT of Linux takes no more
Versions: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=200)]
Days: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=3650)]
Seconds: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=30 * 86_400)]
Ratio: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1)]
Edges: TypeAlias = tuple[float, ...]
Text: TypeAlias = Annotated[str, Parse(parse_not_blank, "text")]
Header: TypeAlias = Annotated[str, Parse(parse_header, "header name")]
Network: TypeAlias = Annotated[IPv4Network | IPv6Network, Parse(parse_network, "IP address or CIDR block")]
Bind: TypeAlias = Annotated[Address, Parse(parse_address, "IP:port")]
OptionalBind: TypeAlias = Annotated[Address | None, Parse(parse_optional_address, 'IP:port, or "" for none')]
Sealed: TypeAlias = Annotated[Secret, Parse(parse_secret, "text, secret")]
KeyId: TypeAlias = Annotated[str, Parse(parse_key_id, "name")]
AdminName: TypeAlias = Annotated[str, Parse(parse_admin_name, "name")]
OptionalSealed: TypeAlias = Annotated[Secret | None, Parse(parse_optional_secret, 'text, secret, or "" for none')]
OptionalText: TypeAlias = Annotated[str | None, Parse(parse_optional_text, 'text, or "" for none')]
OptionalEndpoint: TypeAlias = Annotated[str | None, Parse(parse_endpoint, 'host:port, or "" for none')]
KubernetesName: TypeAlias = Annotated[str, Parse(parse_kubernetes_name, '[namespace/]name, or "" for none')]
OptionalBaseUrl: TypeAlias = Annotated[str | None, Parse(parse_optional_base_url, 'URL, or "" for none')]
