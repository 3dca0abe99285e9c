"""How raw values become typed ones, from a file and from the environment, and what is said when they cannot."""

from typing import Any

import pytest

from aisix_common.errors import Problem
from aisix_common.secret import Secret
from aisix_common.settings import Settings
from aisix_common.settings.listeners import AdminKey
from aisix_common.settings.sources import Override, Plain
from aisix_common.settings.values import Count, Ratio, Section
from aisix_common.settings.walker import Walker, leaves, number_rule, shape

from tests.common.settings.documents import LEAST, built, loaded, problems, problems_of
from tests.common.settings.test_schema import value_at

FROM_FILE: list[tuple[str, str, Any]] = [
    ("upstream: {timeout_ms: 15}", "upstream.timeout_ms", 15),
    ("upstream: {timeout_ms: '15'}", "upstream.timeout_ms", 15),
    ("upstream: {timeout_ms: 0x10}", "upstream.timeout_ms", 16),
    ("upstream: {retries: 4294967295}", "upstream.retries", 4294967295),
    ("upstream: {timeout_ms: 2147483647}", "upstream.timeout_ms", 2147483647),
    ("upstream: {tcp_keepalive_retries: 127}", "upstream.tcp_keepalive_retries", 127),
    ("upstream: {pool_max_idle_per_host: 0}", "upstream.pool_max_idle_per_host", 0),
    ("upstream: {tls: {verify: FALSE}}", "upstream.tls.verify", False),
    ("upstream: {tls: {verify: no}}", "upstream.tls.verify", False),
    ("upstream: {tls: {verify: 'off'}}", "upstream.tls.verify", False),
    ("observability: {service_name: 0123}", "observability.service_name", "0123"),
    ("observability: {service_name: 1e5}", "observability.service_name", "1e5"),
    ("observability: {service_name: TRUE}", "observability.service_name", "TRUE"),
    ("observability: {service_name: 2024-01-01}", "observability.service_name", "2024-01-01"),
    ("observability: {log_format: json}", "observability.log_format", "json"),
    ("observability: {tracing: {otlp: {sample_ratio: 1}}}", "observability.tracing.otlp.sample_ratio", 1.0),
    (
        "observability: {metrics: {buckets: {request_ttft: [1, 2.5]}}}",
        "observability.metrics.buckets.request_ttft",
        (1, 2.5),
    ),
    ("cache: {redis: {nodes: 'a:1, b:2', url: u}}", "cache.redis.nodes", ("a:1", "b:2")),
    ("cache: {redis: {url: u, database: -1}}", "cache.redis.database", -1),
    ("managed: {snapshot_cache_path: ''}", "managed.snapshot_cache_path", ""),
    ("managed: {heartbeat_interval_secs: 1}", "managed.heartbeat_interval_secs", 5),
    ("managed: {metrics_addr: ''}", "managed.metrics_addr", None),
    ("bedrock_endpoint_url: ''", "bedrock_endpoint_url", ""),
    ("etcd:\n", "etcd.prefix", "/aisix"),
]


@pytest.mark.parametrize(("text", "path", "value"), FROM_FILE)
def test_from_a_file(text: str, path: str, value: Any) -> None:
    environ = {"AISIX_ETCD__ENDPOINTS": "http://a:1"}
    least = "\n".join(line for line in LEAST.splitlines() if not line.startswith("etcd"))
    found = value_at(built(f"{least}\n{text}", environ).settings, path)
    assert found == value
    assert type(found) is type(value)


FROM_ENVIRONMENT: list[tuple[str, str, str, Any]] = [
    ("AISIX_UPSTREAM__TIMEOUT_MS", "15", "upstream.timeout_ms", 15),
    ("AISIX_UPSTREAM__TIMEOUT_MS", " 15 ", "upstream.timeout_ms", 15),
    ("AISIX_PROXY__WORKERS", "512", "proxy.workers", 512),
    ("AISIX_ADMIN__ENABLED", "TRUE", "admin.enabled", True),
    ("AISIX_ADMIN__ENABLED", "0", "admin.enabled", False),
    ("AISIX_OBSERVABILITY__SERVICE_NAME", "0123", "observability.service_name", "0123"),
    ("AISIX_OBSERVABILITY__SERVICE_NAME", "TRUE", "observability.service_name", "TRUE"),
    ("AISIX_OBSERVABILITY__SERVICE_NAME", "1e5", "observability.service_name", "1e5"),
    ("AISIX_OBSERVABILITY__SERVICE_NAME", "null", "observability.service_name", "null"),
    ("AISIX_ETCD__ENDPOINTS", "http://a:1, http://b:2", "etcd.endpoints", ("http://a:1", "http://b:2")),
    ("AISIX_ETCD__ENDPOINTS", "http://a:1", "etcd.endpoints", ("http://a:1",)),
    ("AISIX_PROXY__REQUEST_ID__ACCEPT_HEADERS", "", "proxy.request_id.accept_headers", ()),
    ("AISIX_OBSERVABILITY__METRICS__BUCKETS__REQUEST_TTFT", "5", "observability.metrics.buckets.request_ttft", (5.0,)),
    (
        "AISIX_OBSERVABILITY__METRICS__BUCKETS__REQUEST_TTFT",
        "1, 2",
        "observability.metrics.buckets.request_ttft",
        (1, 2),
    ),
    ("AISIX_CACHE__REDIS__URL", "redis://x", "cache.redis.mode", "single"),
    ("AISIX_PROXY__URL_REWRITES", "", "proxy.url_rewrites", ()),
    ("AISIX_MANAGED__SNAPSHOT_CACHE_PATH", "", "managed.snapshot_cache_path", ""),
    ("AISIX_ADMIN__METRICS_ADDR", "", "admin.metrics_addr", None),
    ("AISIX_ETCD__ENV_ID", "", "etcd.env_id", ""),
]


@pytest.mark.parametrize(("variable", "text", "path", "value"), FROM_ENVIRONMENT)
def test_from_the_environment(variable: str, text: str, path: str, value: Any) -> None:
    assert value_at(loaded("", {variable: text}).settings, path) == value


@pytest.mark.parametrize("key", ["0123", "1e5", "TRUE", "123456", "null"])
def test_secrets_keep_their_text_from_both(key: str) -> None:
    from_environment = loaded("", {"AISIX_ADMIN__ADMIN_KEYS": f" {key} "}).settings.admin.admin_keys
    assert from_environment == (Secret(key),)
    if key != "null":
        from_file = loaded(f"cache: {{redis: {{url: u, password: {key}}}}}\n").settings.cache.redis
        assert from_file is not None and from_file.password is not None
        assert from_file.password.reveal() == key


def test_a_key_or_a_map_that_says_more_about_it() -> None:
    text = 'proxy: {addr: "1.1.1.1:1"}\netcd: {endpoints: [a]}\nadmin: {admin_keys: %s}\n'
    (plain, named) = built(text % "[0123, {name: ci, key_env: K, role: viewer}]", {"K": "x"}).settings.admin.admin_keys
    assert plain == Secret("0123")
    assert named == AdminKey(name="ci", key_env="K", role="viewer")
    many = '["a,b", {"key": "c"}, 12]'
    assert loaded("", {"AISIX_ADMIN__ADMIN_KEYS": many}).settings.admin.admin_keys == (
        Secret("a,b"),
        AdminKey(key=Secret("c")),
        Secret("12"),
    )
    assert loaded("", {"AISIX_ADMIN__ADMIN_KEYS": "a,{b"}).settings.admin.admin_keys == (Secret("a"), Secret("{b"))


def test_a_map_that_says_it_wrong() -> None:
    found = problems_of(
        {"AISIX_ADMIN__ADMIN_KEYS": '[{"kee": "s3cr3t"}, {"key": " "}, [], {"key": "k", "role": "root"}]'}
    )
    assert found.keys() == {
        "admin.admin_keys[0].kee",
        "admin.admin_keys[1].key",
        "admin.admin_keys[2]",
        "admin.admin_keys[3].role",
    }
    assert "s3cr3t" not in str(found)
    assert "must be JSON" in problems_of({"AISIX_ADMIN__ADMIN_KEYS": "[s3cr3t"})["admin.admin_keys"]


def test_lists_of_maps_may_be_json() -> None:
    rule = '[{"match": "^/a", "rewrite": "/b"}]'
    for settings in (
        loaded("", {"AISIX_PROXY__URL_REWRITES": rule}).settings,
        loaded(environ={"AISIX_PROXY__URL_REWRITES": f" {rule} "}).settings,
    ):
        assert [(found.match, found.rewrite) for found in settings.proxy.url_rewrites] == [("^/a", "/b")]
    rules = 'observability: {metrics: {client_type_rules: \'[{"pattern": "x", "client": "y"}]\'}}\n'
    assert loaded(rules).settings.observability.metrics.client_type_rules[0].client == "y"


def test_free_form_maps_keep_their_values() -> None:
    text = "secrets: {providers: [{id: v, manager: vault, options: {port: 8200, tls: true, names: [a, no]}}]}\n"
    (provider,) = loaded(text).settings.secrets.providers
    assert provider.options == {"port": 8200, "tls": True, "names": ["a", "no"]}


WRONG: list[tuple[str, str, str]] = [
    ("upstream: {timeout_ms: s3cr3t}", "upstream.timeout_ms", "must be a whole number from 0 to 2147483647"),
    ("upstream: {timeout_ms: -1}", "upstream.timeout_ms", "must be a whole number from 0 to 2147483647"),
    ("upstream: {timeout_ms: 1.5}", "upstream.timeout_ms", "must be a whole number from 0 to 2147483647"),
    ("upstream: {timeout_ms: true}", "upstream.timeout_ms", "must be a whole number from 0 to 2147483647"),
    ("upstream: {timeout_ms: 99999999999999999999999}", "upstream.timeout_ms", "must be a whole number"),
    ("upstream: {timeout_ms: []}", "upstream.timeout_ms", "must be a whole number"),
    ("upstream: {retries: 4294967296}", "upstream.retries", "from 0 to 4294967295"),
    ("downstream: {idle_timeout_secs: -1}", "downstream.idle_timeout_secs", "must be a whole number of at least 0"),
    ("proxy: {workers: 0}", "proxy.workers", "must be a whole number from 1 to 512"),
    ("proxy: {workers: 513}", "proxy.workers", "must be a whole number from 1 to 512"),
    ("upstream: {tcp_keepalive_retries: 128}", "upstream.tcp_keepalive_retries", "from 0 to 127"),
    *(
        (f"{section}: {{{name}: 2147483648}}", f"{section}.{name}", f"from {least} to 2147483647")
        for section, name, least in [
            ("etcd", "dial_timeout_ms", 1),
            ("etcd", "request_timeout_ms", 1),
            ("upstream", "timeout_ms", 0),
            ("upstream", "stream_timeout_ms", 0),
            ("upstream", "connect_timeout_ms", 0),
        ]
    ),
    ("observability: {tracing: {otlp: {sample_ratio: 2}}}", "observability.tracing.otlp.sample_ratio", "from 0 to 1"),
    (
        "observability: {tracing: {otlp: {sample_ratio: .nan}}}",
        "observability.tracing.otlp.sample_ratio",
        "from 0 to 1",
    ),
    ("observability: {metrics: {buckets: {a2a_ttfb: [.inf]}}}", "observability.metrics.buckets.a2a_ttfb[0]", "finite"),
    ("observability: {metrics: {buckets: {a2a_ttfb: {}}}}", "observability.metrics.buckets.a2a_ttfb", "must be a list"),
    ("observability: {log_format: s3cr3t}", "observability.log_format", "must be one of auto, json, text"),
    ("observability: {access_log: s3cr3t}", "observability.access_log", "must be true or false"),
    ("observability: {access_log: 2}", "observability.access_log", "must be true or false"),
    ("observability: {service_name: [s3cr3t]}", "observability.service_name", "must be text"),
    ('observability: {service_name: "a\\0b"}', "observability.service_name", "without NUL"),
    ("observability: s3cr3t", "observability", "must be a map of settings"),
    ("observability: [s3cr3t]", "observability", "must be a map of settings"),
    ("proxy: {url_rewrites: s3cr3t}", "proxy.url_rewrites", "must be JSON: line 1, column 1"),
    ("proxy: {url_rewrites: [s3cr3t]}", "proxy.url_rewrites[0]", "must be a map of settings"),
    ("proxy: {url_rewrites: [{match: a}]}", "proxy.url_rewrites[0].rewrite", "is required"),
    ("proxy: {tls: {cert_file: a}}", "proxy.tls.key_file", "is required"),
    ("proxy: {tls: {}}", "proxy.tls.cert_file", "is required"),
    ("etcd: {tls: {ca_cert_file: a, client_cert_file: ' '}}", "etcd.tls.client_cert_file", "must not be blank"),
    ("secrets: {providers: [{id: a, manager: vault, options: 3}]}", "secrets.providers[0].options", "must be a map"),
    ("proxy: {worker: 2}", "proxy.worker", "is not a setting; did you mean proxy.workers?"),
    ("prxy: {}", "prxy", "is not a setting; did you mean proxy?"),
    ("shutdown: {xyzzy: 2}", "shutdown.xyzzy", "is not a setting; known here: min_drain_secs"),
    ("admin: {admin_keys: [k, ' ']}", "admin.admin_keys[1]", "must not be blank"),
]


@pytest.mark.parametrize(("text", "path", "reason"), WRONG)
def test_wrong(text: str, path: str, reason: str) -> None:
    found = problems(text)
    assert reason in found[path]
    assert "s3cr3t" not in str(found)


def test_what_the_environment_got_wrong_names_the_variable() -> None:
    assert problems_of({"aisix_proxy__workers": "s3cr3t"}) == {
        "proxy.workers": "must be a whole number from 1 to 512 (set by aisix_proxy__workers)"
    }
    assert problems_of({"AISIX_PROXY__URL_REWRITES": "["})["proxy.url_rewrites"].endswith(
        "(set by AISIX_PROXY__URL_REWRITES)"
    )


def test_the_environment_heals_the_file() -> None:
    text = LEAST.replace("127.0.0.1:3000", "nonsense")
    assert "proxy.addr" in problems(text)
    built(text, {"AISIX_PROXY__ADDR": "127.0.0.1:1"})


def test_leaves_and_shapes() -> None:
    paths = [path for path, _ in leaves(Settings)]
    assert len(set(paths)) == len(paths)
    assert {"proxy.tls.cert_file", "cache.redis.tls.verify", "admin.admin_keys"} <= set(paths)
    form = shape(Count | None)
    assert form.optional
    assert number_rule(form) == "a whole number of at least 0"
    assert number_rule(shape(Ratio)) == "a finite number from 0 to 1"
    assert number_rule(shape(int)) == "a whole number"


class _Inner(Section, frozen=True, kw_only=True):
    needed: str


class _Outer(Section, frozen=True, kw_only=True):
    inner: _Inner
    other: _Inner | None = None


def test_required_sections_and_stand_ins() -> None:
    found: list[Problem] = []
    outer = Walker({}, found).section(_Outer, {}, "")
    assert [str(problem) for problem in found] == ["inner: is required"]
    assert outer == _Outer(inner=_Inner(needed=""))


def test_an_override_alone_brings_an_optional_section() -> None:
    found: list[Problem] = []
    walker = Walker({"other.needed": Override("V", "x")}, found)
    outer = walker.section(_Outer, {"inner": {"needed": Plain("0x1")}}, "")
    assert found == []
    assert outer == _Outer(inner=_Inner(needed="0x1"), other=_Inner(needed="x"))


@pytest.mark.parametrize(("native", "text"), [(True, "true"), (12, "12"), (1.5, "1.5")])
def test_what_json_and_toml_know_as_numbers_reads_as_it_is_written(native: Any, text: str) -> None:
    found: list[Problem] = []
    outer = Walker({}, found).section(_Outer, {"inner": {"needed": native}}, "")
    assert (outer.inner.needed, found) == (text, [])
