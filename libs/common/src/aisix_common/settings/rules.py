"""What settings must agree on beyond their types: one function for each section that has such rules, and a table.

Pure. Every function yields all it finds, with paths below the one it is given; reasons never quote a value.
"""

import itertools
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from aisix_common.errors import Problem

from .control import Bootstrap, KeyringKey, Managed, Secrets
from .listeners import Admin, AdminKey, Proxy, RequestId, UrlRewrite
from .observability import Buckets, ClientTypeRule, Metrics, Prometheus, TracingOtlp
from .outbound import ClientTls
from .schema import Settings
from .storage import Cache, Etcd, RateLimit, Redis
from .values import Section

EXAMPLE_KEYS: Final = frozenset({"admin", "admin-local-only-change-me", "your-strong-admin-key-here"})
"""Admin keys printed in documents and examples."""

_CREDENTIAL_HEADERS: Final = frozenset(
    {
        *("authorization", "x-api-key", "x-goog-api-key", "api-key", "x-amz-security-token", "x-amz-date"),
        *("x-amz-content-sha256", "proxy-authorization", "cookie", "host"),
    }
)
_TRACE_HEADERS: Final = frozenset({"traceparent", "tracestate"})
_CLIENT: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_REFERENCE: Final = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<braced>[^{}]*)(?P<end>\}?)|(?P<bare>[0-9A-Za-z_]+))?")
_ENDPOINT: Final = re.compile(
    r"(?:https?://)?(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\s/:@\[\]?#]+)(?::(?P<port>[0-9]{1,5}))?/?"
)


def check(settings: Settings, environ: Mapping[str, str]) -> Iterator[Problem]:
    """Every rule of every section, and those between sections."""
    yield from _walk(settings, "")
    yield from _sources(settings, environ)
    if settings.admin_binds and not settings.admin.admin_keys:
        yield Problem("admin.admin_keys", "must name at least one key, unless admin.enabled is false")
    if settings.admin_binds:
        for index, key in enumerate(settings.admin.admin_keys):
            if isinstance(key, AdminKey) and key.key_env is not None and not environ.get(key.key_env, "").strip():
                path = f"admin.admin_keys[{index}].key_env"
                yield Problem(path, "names an environment variable that is not set, or is blank")


def _walk(value: Any, path: str) -> Iterator[Problem]:
    """The rules of `value` and everything below it."""
    if isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _walk(item, f"{path}[{index}]")
    elif isinstance(value, Section):
        rule = _RULES.get(type(value))
        if rule is not None:
            yield from (Problem(_below(path, name), reason) for name, reason in rule(value))
        for field in msgspec.structs.fields(value):
            yield from _walk(getattr(value, field.name), _below(path, field.name))


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


def _sources(settings: Settings, environ: Mapping[str, str]) -> Iterator[Problem]:
    etcd, managed = settings.etcd, settings.managed.enabled
    if settings.resources_file is not None and etcd.endpoints:
        yield Problem("resources_file", "excludes etcd.endpoints: remove one of the two")
    if settings.resources_file is not None and managed:
        yield Problem("resources_file", "excludes managed.enabled: remove one of the two")
    if settings.resources_file is None and not etcd.endpoints:
        yield Problem("etcd.endpoints", "must name at least one endpoint, unless resources_file is set")
    if etcd.endpoints and etcd.user and etcd.password_env and etcd.password_env not in environ:
        yield Problem("etcd.password_env", "names an environment variable that is not set")


_Found = Iterator[tuple[str, str]]


def _etcd(etcd: Etcd) -> _Found:
    for index, endpoint in enumerate(etcd.endpoints):
        match = _ENDPOINT.fullmatch(endpoint)
        if match is None or int(match["port"] or 0) > 65535:
            yield f"endpoints[{index}]", "must be http://host:port, https://host:port or host:port"
        elif etcd.tls is not None and endpoint.startswith("http://"):
            yield f"endpoints[{index}]", "contradicts etcd.tls: write https://, or remove the tls section"
    if etcd.tls is None and 0 < sum(endpoint.startswith("https://") for endpoint in etcd.endpoints) < len(
        etcd.endpoints
    ):
        yield "endpoints", "must not mix endpoints with and without TLS: write https:// before all of them or none"
    root = etcd.resource_root
    if not root.strip("/") or any(character.isspace() or not character.isprintable() for character in root):
        yield "prefix", "must name a folder of its own in etcd, such as /aisix"
    elif any(other.startswith(root) for other in (etcd.ext_root, etcd.run_root)):
        yield "prefix", "must not be the beginning of /ext or /run, where the gateway keeps its own rows"
    if "/" in etcd.env_id:
        yield "env_id", "must be one path segment"


def _admin(admin: Admin) -> _Found:
    names = [admin_key_name(place, key) for place, key in enumerate(admin.admin_keys)]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield f"admin_keys[{index}]", "has the name of another key; names left out are key-<position in the list>"


def admin_key_name(place: int, key: Any) -> str:
    """What the entry at `place` (from 0) of `admin.admin_keys` is called."""
    name = key.name if isinstance(key, AdminKey) else None
    return name or f"key-{place + 1}"


def _admin_key(key: AdminKey) -> _Found:
    if sum(source is not None for source in (key.key, key.key_file, key.key_env)) != 1:
        yield "", "must name exactly one of key, key_file and key_env"


def _request_id(request_id: RequestId) -> _Found:
    for index, header in enumerate(request_id.accept_headers):
        if header in _CREDENTIAL_HEADERS:
            yield f"accept_headers[{index}]", "carries credentials or routing, and ids are logged: use another header"
        elif header in _TRACE_HEADERS:
            yield f"accept_headers[{index}]", "carries trace context, which is no request id: use another header"


def _proxy(proxy: Proxy) -> _Found:
    names = [rule.name for rule in proxy.url_rewrites if rule.name]
    if len(set(names)) != len(names):
        yield "url_rewrites", "must not hold two rules of one name"


def _url_rewrite(rule: UrlRewrite) -> _Found:
    pattern = compiled(rule.match)
    if pattern is None:
        yield "match", "must be a regular expression"
    elif pattern.search("") is not None:
        yield "match", "must not match the empty path"
    if any(character in "?#" or character.isspace() or not character.isprintable() for character in rule.rewrite):
        yield "rewrite", "must be a path without query, fragment, spaces or control characters"
    for reference in _REFERENCE.finditer(rule.rewrite):
        if reference["braced"] is not None and not reference["end"]:
            yield "rewrite", "has a ${ without its }"
            continue
        name = reference["braced"] if reference["braced"] is not None else reference["bare"]
        if name is not None and pattern is not None and not _captures(pattern, name):
            yield "rewrite", "names a capture that match does not have; write $$ for a dollar sign"


def compiled(text: str, flags: int = 0) -> re.Pattern[str] | None:
    """`text` as a regular expression, or None. `(?<name>...)` is understood as in other engines."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return re.compile(re.sub(r"\(\?<(?=[A-Za-z_])", "(?P<", text), flags)
    except (re.error, OverflowError, RecursionError, ValueError):
        return None


def _captures(pattern: re.Pattern[str], name: str) -> bool:
    if name.isascii() and name.isdigit():
        return len(name) < 4 and int(name) <= pattern.groups
    return name in pattern.groupindex


def _prometheus(prometheus: Prometheus) -> _Found:
    if prometheus.path in ("/status/config", "/status/ready", "/status/models"):
        yield "path", "is taken by a status page"


def _metrics(metrics: Metrics) -> _Found:
    if len(metrics.client_type_rules) > 64:
        yield "client_type_rules", "must hold at most 64 rules"


def _client_type_rule(rule: ClientTypeRule) -> _Found:
    if not 1 <= len(rule.pattern.encode()) <= 512 or compiled(rule.pattern, re.IGNORECASE) is None:
        yield "pattern", "must be a regular expression of 1 to 512 bytes"
    if _CLIENT.fullmatch(rule.client) is None:
        yield "client", "must be 1 to 64 of a-z, 0-9, dot, underscore and dash, beginning with a letter or digit"


def _buckets(buckets: Buckets) -> _Found:
    for field in msgspec.structs.fields(buckets):
        edges: tuple[float, ...] = getattr(buckets, field.name)
        ascending = all(low < high for low, high in itertools.pairwise(edges))
        if not 1 <= len(edges) <= 64 or edges[0] <= 0 or not ascending:
            yield field.name, "must be 1 to 64 numbers above 0, each larger than the one before"


def _tracing(otlp: TracingOtlp) -> _Found:
    if otlp.enabled and not (otlp.endpoint or "").strip():
        yield "endpoint", "is required when tracing is enabled"


def _client_tls(tls: ClientTls) -> _Found:
    if (tls.client_cert_file is None) != (tls.client_key_file is None):
        missing = "client_cert_file" if tls.client_cert_file is None else "client_key_file"
        yield missing, "is required: client_cert_file and client_key_file go together"


def _redis(redis: Redis) -> _Found:
    if redis.mode == "single" and redis.url is None:
        yield "url", "is required in mode single"
    if redis.mode == "cluster" and not redis.nodes:
        yield "nodes", "must name at least one node in mode cluster"
    if redis.mode == "sentinel":
        if not redis.sentinels:
            yield "sentinels", "must name at least one sentinel in mode sentinel"
        if not (redis.master_name or "").strip():
            yield "master_name", "is required in mode sentinel"


def _cache(cache: Cache) -> _Found:
    if cache.backend == "redis" and cache.redis is None:
        yield "redis", "is required with backend redis"


def _ratelimit(ratelimit: RateLimit) -> _Found:
    if ratelimit.backend == "redis" and ratelimit.redis is None:
        yield "redis", "is required with backend redis"
    if ratelimit.backend == "redis" and ratelimit.concurrency_ttl_secs == 0:
        yield "concurrency_ttl_secs", "must be at least 1 with backend redis"


def _keyring_key(key: KeyringKey) -> _Found:
    if bool(key.file) == bool(key.env):
        yield "", "must name exactly one of file and env"


def _managed(managed: Managed) -> _Found:
    if managed.enabled and managed.cp_base_url is None:
        yield "cp_base_url", "is required in managed mode: the https URL of AISIX Cloud"
    for name, url in (("cp_base_url", managed.cp_base_url), ("bootstrap.url", managed.bootstrap.url)):
        if url is not None and not url.lower().startswith("https://"):
            yield name, "must be an https URL: the certificate that says who we are needs TLS"


def _bootstrap(bootstrap: Bootstrap) -> _Found:
    if bootstrap.token is not None and bootstrap.token_file:
        yield "token_file", "excludes token: remove one of the two"
    if bootstrap.ca_file and bootstrap.ca_pin:
        yield "ca_pin", "excludes ca_file: remove one of the two"
    if bootstrap.wanted and not (bootstrap.ca_file or bootstrap.ca_pin):
        yield "ca_pin", "or ca_file is needed with a token: it says which server may be sent the token"


def _secrets(secrets: Secrets) -> _Found:
    ids = [key.id for key in secrets.keyring]
    if len(set(ids)) != len(ids):
        yield "keyring", "must not hold one id twice"
    known = [(provider.manager, provider.id) for provider in secrets.providers]
    if len(set(known)) != len(known):
        yield "providers", "must not hold one id of a manager twice"


_RULES: Final[Mapping[type[Section], Callable[[Any], _Found]]] = MappingProxyType(
    {
        Admin: _admin,
        AdminKey: _admin_key,
        Bootstrap: _bootstrap,
        Buckets: _buckets,
        Cache: _cache,
        ClientTls: _client_tls,
        ClientTypeRule: _client_type_rule,
        Etcd: _etcd,
        KeyringKey: _keyring_key,
        Managed: _managed,
        Metrics: _metrics,
        Prometheus: _prometheus,
        Proxy: _proxy,
        RateLimit: _ratelimit,
        Redis: _redis,
        RequestId: _request_id,
        Secrets: _secrets,
        TracingOtlp: _tracing,
        UrlRewrite: _url_rewrite,
    }
)
