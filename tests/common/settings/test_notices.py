"""Warnings name what has no effect, and only when it was set to something."""

import pytest

from aisix_common.settings.notices import unused, warnings_for

from tests.common.settings.documents import built, loaded

HEARD: list[tuple[str, str]] = [
    (
        "proxy: {addr: '1.1.1.1:1', thread_per_core: true}\n",
        "proxy.thread_per_core has no effect: workers are processes",
    ),
    ("bedrock_endpoint_url: http://x\n", "bedrock_endpoint_url has no effect in this version"),
    ("managed: {cp_base_url: https://x}\n", "managed.cp_base_url has no effect: managed.enabled is false"),
    ("managed: {cp_key_pem: s3cr3t}\n", "managed.cp_key_pem stands in the configuration file, which the proxy reads"),
    ("managed: {bootstrap: {token: s3cr3t, ca_pin: p}}\n", "managed.bootstrap.token stands in the configuration file"),
    ("managed: {enabled: true, cp_base_url: https://x}\n", "admin.* has no effect in managed mode"),
    ("cache: {redis: {url: u}}\n", "cache.redis has no effect in this version: response caches"),
    ("ratelimit: {concurrency_ttl_secs: 7}\n", "ratelimit.concurrency_ttl_secs has no effect"),
    ("secrets: {allow_plaintext: true}\n", "secrets.allow_plaintext is true without a keyring"),
    ("observability: {metrics: {otlp: {enabled: true}}}\n", "observability.metrics.otlp.enabled has no effect"),
    (
        "observability: {tracing: {otlp: {sample_ratio: 0.5}}}\n",
        "observability.tracing.otlp.sample_ratio has no effect",
    ),
    *(
        (
            f"observability: {{metrics: {{buckets: {{{name}: [1]}}}}}}\n",
            f"observability.metrics.buckets.{name} has no effect in this version",
        )
        for name in ("guardrail_latency", "a2a_ttfb")
    ),
    *(
        (f"observability: {{log_level: '{text}'}}\n", "observability.log_level (or RUST_LOG) sets levels of single")
        for text in ("info,store=trace", "store=trace", "a=info,warn")
    ),
    ("upstream: {tls: {verify: false}}\n", "upstream.tls.verify is false"),
]


@pytest.mark.parametrize(("text", "start"), HEARD)
def test_heard(text: str, start: str) -> None:
    least = "admin: {admin_keys: [k]}\netcd: {endpoints: [a]}\n"
    whole = least + text if text.startswith("proxy") else least + "proxy: {addr: '1.1.1.1:1'}\n" + text
    (warning,) = built(whole).warnings
    assert warning.startswith(start)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "observability: {service_name: eu-1, log_level: error}\n",
        "observability: {metrics: {client_type_rules: [{pattern: a, client: a}], buckets: {request_ttft: [1]}}}\n",
        "bedrock_endpoint_url: ~\n",
        "managed: {heartbeat_interval_secs: 15, snapshot_cache_path: /x}\n",
        "managed: {cp_key_pem: ' ', cp_key_file: /k, bootstrap: {token: '', token_file: /t, ca_file: /c}}\n",
        "cache: {backend: memory}\n",
        "observability: {metrics: {otlp: {enabled: false}, prometheus: {path: /p}}, tracing: {}}\n",
        "secrets: {env_allow: ['AISIX_SECRET_*']}\n",
        "upstream: {timeout_ms: 1}\n",
    ],
)
def test_unheard(text: str) -> None:
    assert loaded(text).warnings == ()


@pytest.mark.parametrize("key", ["admin", "admin-local-only-change-me", "your-strong-admin-key-here", " admin "])
def test_printed_keys_are_loud(key: str) -> None:
    (warning,) = loaded("", {"AISIX_ADMIN__ADMIN_KEYS": f"other,{key}"}).warnings
    assert warning.startswith("SECURITY: admin.admin_keys")
    assert "change-me" not in warning and "strong" not in warning
    assert loaded("", {"AISIX_ADMIN__ADMIN_KEYS": key, "AISIX_ADMIN__ENABLED": "false"}).warnings == ()
    (warning,) = loaded("", {"AISIX_ADMIN__ADMIN_KEYS": f'[{{"key": "{key}"}}, {{"key_file": "admin"}}]'}).warnings
    assert warning.startswith("SECURITY: admin.admin_keys")


@pytest.mark.parametrize("variable", ["AISIX_ETCD__USER", "AISIX_ETCD__PASSWORD_ENV"])
def test_half_a_login(variable: str) -> None:
    (warning,) = loaded("", {variable: "x"}).warnings
    assert "used together only" in warning
    both = {"AISIX_ETCD__USER": "u", "AISIX_ETCD__PASSWORD_ENV": "P", "P": "x"}
    assert loaded("", both).warnings == ()


def test_a_stray_redis_block() -> None:
    assert (
        "ratelimit.redis is ignored while ratelimit.backend is memory"
        in loaded("ratelimit: {redis: {url: u}}").warnings
    )


def test_no_warning_quotes_a_value() -> None:
    text = "managed: {cp_key_pem: s3cr3t, cp_base_url: 'https://s3cr3t'}\ncache: {redis: {url: 's3cr3t'}}\n"
    warnings = warnings_for(loaded(text).settings)
    assert len(warnings) == 3
    assert "s3cr3t" not in " ".join(warnings)


def test_the_clouds_credentials_may_come_from_the_environment() -> None:
    managed = "managed: {enabled: true, cp_base_url: 'https://c', bootstrap: {ca_pin: p}}\n"
    least = "proxy: {addr: '1.1.1.1:1'}\netcd: {endpoints: [a]}\n"
    given = {"AISIX_MANAGED__CP_KEY_PEM": "k", "aisix_managed__bootstrap__token": "t"}
    assert built(least + managed, given).warnings == ()


def test_an_admin_that_nobody_asked_for_is_not_missed_in_managed_mode() -> None:
    managed = "proxy: {addr: '1.1.1.1:1'}\netcd: {endpoints: [a]}\nmanaged: {enabled: true, cp_base_url: 'https://c'}\n"
    assert built(managed).warnings == ()
    (warning,) = built(managed + "admin: {addr: '127.0.0.1:3001'}\n").warnings
    assert warning.startswith("admin.* has no effect in managed mode")


def test_unused_on_defaults_is_nothing() -> None:
    assert list(unused(loaded().settings)) == []
