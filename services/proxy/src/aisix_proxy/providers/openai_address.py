"""Where an OpenAI-compatible base leads (data-plane 4.1, the chat rule). Pure text work; nothing is resolved."""

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

from ..canonical.errors import Misconfigured
from ..canonical.http import Origin

OWN_HOST: Final = "api.openai.com"
DEFAULT_BASE: Final = f"https://{OWN_HOST}/v1"
ENDPOINTS: Final = (
    "/chat/completions",
    "/completions",
    "/embeddings",
    "/images/generations",
    "/audio/speech",
    "/audio/transcriptions",
    "/audio/translations",
)
"""Suffixes that operators paste along with the base; one of them is taken off. The longer before its own ending."""

_PORTS: Final = {"http": 80, "https": 443}
_UNSAFE: Final = re.compile(r"[\x00-\x20\x7f\\]|[^\x00-\x7f]")
_NAME: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?\.?\Z")
_PATH: Final = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*\Z")


def address(provider: str, api_base: str | None) -> tuple[Origin, str]:
    """Origin and base path (no trailing slash) of a provider key. Raises Misconfigured 400 naming the rule."""
    base = (api_base or "").strip()
    if not base:
        if provider not in ("", "openai"):
            raise refused("the provider key needs an api_base: only the vendor openai has one of its own")
        base = DEFAULT_BASE
    origin, path = _split(base)
    path = path.rstrip("/")
    for endpoint in ENDPOINTS:
        if path.endswith(endpoint):
            path = path.removesuffix(endpoint).rstrip("/")
            break
    if not path and origin.host == OWN_HOST and origin.port == _PORTS[origin.scheme]:
        path = "/v1"
    return origin, path


def refused(rule: str) -> Misconfigured:
    """The base is never quoted: it may hold a credential."""
    return Misconfigured(f"invalid upstream configuration: {rule}", status=400, type="invalid_request_error")


def _split(base: str) -> tuple[Origin, str]:
    if _UNSAFE.search(base):
        raise refused("api_base may hold visible ASCII characters only, and no backslash")
    scheme, colon, rest = base.partition("://")
    scheme = scheme.lower()
    if not colon or scheme not in _PORTS:
        raise refused("api_base must begin with http:// or https://")
    if "?" in rest or "#" in rest:
        raise refused("api_base may have no query and no fragment")
    if "@" in rest.partition("/")[0]:
        raise refused("api_base may hold no user name or password; the credential belongs into api_key")
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise refused("api_base must name a host, and a port between 1 and 65535 if any") from None
    if not _is_host(host, bracketed=rest.startswith("[")) or port == 0:
        raise refused("api_base must name a host, and a port between 1 and 65535 if any")
    if not _PATH.match(parts.path):
        raise refused("the path of api_base may hold URL characters only")
    return Origin(scheme, host, port or _PORTS[scheme]), parts.path


def _is_host(host: str, *, bracketed: bool) -> bool:
    if bracketed:
        try:
            return ipaddress.IPv6Address(host).scope_id is None
        except ValueError:
            return False
    return bool(_NAME.match(host))
