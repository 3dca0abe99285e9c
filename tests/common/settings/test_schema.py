"""Every documented default, typed from the contract and not from the code."""

from typing import Any

import pytest

from aisix_common.settings import Address, Settings
from aisix_common.settings.walker import leaves

from tests.common.settings.documents import loaded

E2E = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 420, 600)
FIRST = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)
GUARDRAIL = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

DEFAULTS: dict[str, Any] = {
    "resources_file": None,
    "bedrock_endpoint_url": None,
    "etcd.prefix": "/aisix",
    "etcd.env_id": "",
    "etcd.user": None,
    "etcd.password_env": None,
    "etcd.dial_timeout_ms": 5000,
    "etcd.request_timeout_ms": 5000,
    "proxy.request_body_limit_bytes": 0,
    "proxy.real_ip.trusted_proxies": (),
    "proxy.real_ip.recursive": False,
    "proxy.real_ip.header": "x-forwarded-for",
    "proxy.request_id.accept_headers": ("x-aisix-request-id",),
    "proxy.thread_per_core": None,
    "proxy.workers": 1,
    "proxy.url_rewrites": (),
    "admin.enabled": True,
    "admin.addr": Address("127.0.0.1", 0),
    "admin.metrics_addr": Address("0.0.0.0", 9091),
    "admin.playground_proxy_url": None,
    "admin.history_versions": 20,
    "admin.audit_days": 90,
    "observability.service_name": "aisix",
    "observability.log_level": "info",
    "observability.log_format": "auto",
    "observability.access_log": True,
    "observability.metrics.prometheus.enabled": True,
    "observability.metrics.prometheus.path": "/metrics",
    "observability.metrics.prometheus.addr": Address("0.0.0.0", 9090),
    "observability.metrics.otlp.enabled": False,
    "observability.metrics.otlp.endpoint": None,
    "observability.metrics.client_type_rules": (),
    "observability.metrics.buckets.request_e2e_latency": E2E,
    "observability.metrics.buckets.request_ttft": FIRST,
    "observability.metrics.buckets.guardrail_latency": GUARDRAIL,
    "observability.metrics.buckets.a2a_ttfb": FIRST,
    "observability.tracing.otlp.enabled": False,
    "observability.tracing.otlp.endpoint": None,
    "observability.tracing.otlp.sample_ratio": 1.0,
    "cache.backend": "memory",
    "ratelimit.backend": "memory",
    "ratelimit.concurrency_ttl_secs": 300,
    "upstream.timeout_ms": 6000000,
    "upstream.stream_timeout_ms": 0,
    "upstream.connect_timeout_ms": 5000,
    "upstream.tcp_keepalive_secs": 60,
    "upstream.tcp_keepalive_interval_secs": 30,
    "upstream.tcp_keepalive_retries": 5,
    "upstream.pool_idle_timeout_secs": 30,
    "upstream.pool_max_idle_per_host": None,
    "upstream.retries": 2,
    "upstream.metadata_hosts": (),
    "upstream.tls.ca_file": None,
    "upstream.tls.client_cert_file": None,
    "upstream.tls.client_key_file": None,
    "upstream.tls.verify": True,
    "downstream.idle_timeout_secs": 0,
    "downstream.sse_keepalive_interval_secs": 15,
    "shutdown.min_drain_secs": 30,
    "managed.enabled": False,
    "managed.cp_base_url": None,
    "managed.cp_etcd_endpoint": None,
    "managed.cp_ca_cert_file": None,
    "managed.cp_cert_pem": None,
    "managed.cp_key_pem": None,
    "managed.cp_ca_pem": None,
    "managed.cp_cert_file": None,
    "managed.cp_key_file": None,
    "managed.cp_ca_file": None,
    "managed.bootstrap.url": None,
    "managed.bootstrap.token": None,
    "managed.bootstrap.token_file": None,
    "managed.bootstrap.ca_file": None,
    "managed.bootstrap.ca_pin": None,
    "managed.renew": False,
    "managed.kubernetes_secret": "",
    "managed.kubernetes_lease": "",
    "managed.takeover": False,
    "managed.shrink_share": 0.3,
    "managed.budget_stale_max_secs": 600,
    "managed.usage.folder": "/var/lib/aisix/usage",
    "managed.usage.flush_secs": 5,
    "managed.usage.max_bytes": 1024**3,
    "managed.usage.max_age_secs": 7 * 86_400,
    "managed.mtls_dir": "/var/lib/aisix/mtls",
    "managed.dp_id_file": "/var/lib/aisix/dp_id",
    "managed.snapshot_cache_path": "/var/lib/aisix/snapshot.cache",
    "managed.heartbeat_interval_secs": 15,
    "managed.metrics_addr": Address("0.0.0.0", 9092),
    "secrets.keyring": (),
    "secrets.local_key_file": "/var/lib/aisix/keyring.key",
    "secrets.allow_plaintext": False,
    "secrets.env_allow": ("AISIX_SECRET_*",),
    "secrets.env_in_managed": False,
    "secrets.kubernetes_allow": ("*/aisix-secret-*",),
    "secrets.service_account_hosts": ("*.svc", "*.svc.cluster.local", "127.0.0.1", "localhost"),
    "secrets.providers": (),
    "secrets.refresh_secs": 300,
    "secrets.retry_secs": 10,
    "secrets.stale_max_secs": 86_400,
    "secrets.timeout_ms": 5000,
}

ABSENT = ("proxy.tls", "admin.tls", "etcd.tls", "cache.redis", "ratelimit.redis")
"""Sections that are not there unless they are written."""

WRITTEN = {"proxy.addr", "admin.admin_keys", "etcd.endpoints"}
"""What the shortest configuration says itself."""


def value_at(settings: Settings, path: str) -> Any:
    value: Any = settings
    for name in path.split("."):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize("path", DEFAULTS)
def test_default(path: str) -> None:
    assert value_at(loaded().settings, path) == DEFAULTS[path]


@pytest.mark.parametrize("path", ABSENT)
def test_optional_section(path: str) -> None:
    assert value_at(loaded().settings, path) is None


def test_no_setting_is_forgotten() -> None:
    below_absent = {path for path, _ in leaves(Settings) if path.startswith(tuple(f"{name}." for name in ABSENT))}
    assert {path for path, _ in leaves(Settings)} - below_absent == DEFAULTS.keys() | WRITTEN


@pytest.mark.parametrize("text", ["observability:\n", "observability: {}\n", "observability: {log_level: ~}\n", ""])
def test_an_absent_section_an_empty_one_and_null_are_the_same(text: str) -> None:
    assert loaded(text).settings == loaded().settings


@pytest.mark.parametrize(
    ("environ", "resources", "ext", "run"),
    [
        ({}, "/aisix", "/ext/aisix", "/run/aisix"),
        ({"AISIX_ETCD__PREFIX": "/aisix/"}, "/aisix", "/ext/aisix", "/run/aisix"),
        ({"AISIX_ETCD__ENV_ID": "e-1"}, "/aisix/e-1", "/ext/aisix/e-1", "/run/aisix/e-1"),
        (
            {"AISIX_ETCD__PREFIX": "/a/b//", "AISIX_ETCD__ENV_ID": "e"},
            *("/a/b/e", "/ext/a/b/e", "/run/a/b/e"),
        ),
        ({"AISIX_ETCD__PREFIX": "plain"}, "plain", "/ext/plain", "/run/plain"),
    ],
)
def test_roots(environ: dict[str, str], resources: str, ext: str, run: str) -> None:
    etcd = loaded("", environ).settings.etcd
    assert (etcd.resource_root, etcd.ext_root, etcd.run_root) == (resources, ext, run)


def test_sections_are_frozen_and_hide_secrets() -> None:
    settings = loaded("", {"AISIX_ADMIN__ADMIN_KEYS": "very-hidden"}).settings
    with pytest.raises(AttributeError):
        settings.shutdown.min_drain_secs = 1  # type: ignore[misc]
    assert "very-hidden" not in repr(settings)


@pytest.mark.parametrize(
    ("text", "binds"),
    [("", True), ("managed: {enabled: true, cp_base_url: 'https://c'}\n", False)],
)
def test_where_an_admin_belongs(text: str, binds: bool) -> None:
    assert loaded(text).settings.admin_binds is binds
    assert not loaded(text, {"AISIX_ADMIN__ENABLED": "false"}).settings.admin_binds
