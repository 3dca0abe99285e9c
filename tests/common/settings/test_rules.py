"""Rules between fields: for each, a document that breaks it and the neighbour that does not."""

import re

import pytest

from aisix_common.settings.rules import compiled

from tests.common.settings.documents import built, loaded, problems

BASE = 'proxy: {addr: "1.1.1.1:1"}\nadmin: {admin_keys: [k]}\netcd: {endpoints: [a]}\n'
PROXY = 'proxy: {{addr: "1.1.1.1:1", {}}}\nadmin: {{admin_keys: [k]}}\netcd: {{endpoints: [a]}}\n'
KEYS = 'proxy: {{addr: "1.1.1.1:1"}}\nadmin: {{admin_keys: [{}]}}\netcd: {{endpoints: [a]}}\n'
ADMIN = 'proxy: {{addr: "1.1.1.1:1"}}\nadmin: {{admin_keys: [k], {}}}\netcd: {{endpoints: [a]}}\n'
ETCD = 'proxy: {{addr: "1.1.1.1:1"}}\nadmin: {{admin_keys: [k]}}\netcd: {{{}}}\n'
TLS = "tls: {ca_cert_file: a, client_cert_file: b, client_key_file: c}"
REWRITE = PROXY.format("url_rewrites: [{{match: '{}', rewrite: '{}'}}]")

BROKEN: list[tuple[str, str, str]] = [
    ("", "proxy", "is required"),
    ("proxy: {}", "proxy.addr", "is required"),
    ("", "etcd.endpoints", "at least one endpoint"),
    ("managed: {enabled: true}", "etcd.endpoints", "at least one endpoint"),
    (BASE + "managed: {enabled: true}", "managed.cp_base_url", "is required in managed mode"),
    (BASE + "managed: {enabled: true, cp_base_url: ' '}", "managed.cp_base_url", "is required in managed mode"),
    *(
        (BASE + f"managed: {{{setting}}}", f"managed.{path}", reason)
        for setting, path, reason in [
            ("cp_base_url: http://c", "cp_base_url", "must be an https URL"),
            ("cp_base_url: c", "cp_base_url", "URL of a host"),
            ("cp_base_url: https://u:s3cr3t@c", "cp_base_url", "no user"),
            ("cp_etcd_endpoint: https://c:2379", "cp_etcd_endpoint", "must be host:port, without a scheme"),
            ("cp_etcd_endpoint: c", "cp_etcd_endpoint", "must be host:port"),
            ("cp_etcd_endpoint: c:0", "cp_etcd_endpoint", "must be host:port"),
            ("cp_etcd_endpoint: c:65536", "cp_etcd_endpoint", "must be host:port"),
            ("cp_etcd_endpoint: c:1/x", "cp_etcd_endpoint", "must be host:port"),
            ("bootstrap: {url: http://c}", "bootstrap.url", "must be an https URL"),
            ("bootstrap: {token: s3cr3t, token_file: f, ca_pin: p}", "bootstrap.token_file", "excludes token"),
            ("bootstrap: {ca_file: f, ca_pin: p}", "bootstrap.ca_pin", "excludes ca_file"),
            ("bootstrap: {token: s3cr3t}", "bootstrap.ca_pin", "says which server may be sent the token"),
            ("bootstrap: {token_file: f, ca_file: ' '}", "bootstrap.ca_pin", "says which server may be sent the token"),
            ("shrink_share: 1.1", "shrink_share", "from 0 to 1"),
            ("shrink_share: -0.1", "shrink_share", "from 0 to 1"),
            ("usage: {flush_secs: 0}", "usage.flush_secs", "from 1 to"),
            ("usage: {max_age_secs: 0}", "usage.max_age_secs", "from 1 to"),
            ("budget_stale_max_secs: -1", "budget_stale_max_secs", "at least 0"),
            *(
                (f"kubernetes_{what}: '{name}'", f"kubernetes_{what}", "must be <name> or <namespace>/<name>")
                for what in ("secret", "lease")
                for name in ("A", "a b", "a/b/c", "/a", "a/", "n.s/a", "a..b", "-a", "a-", "a_b", "a" * 254)
            ),
        ]
    ),
    (BASE + "resources_file: r", "resources_file", "excludes etcd.endpoints"),
    ("resources_file: r\nmanaged: {enabled: true}", "resources_file", "excludes managed.enabled"),
    ("resources_file: ' '", "resources_file", "must not be blank"),
    ("", "admin.admin_keys", "at least one key"),
    (KEYS.format("{name: a}"), "admin.admin_keys[0]", "exactly one of key, key_file and key_env"),
    (KEYS.format("{key: k, key_file: f}"), "admin.admin_keys[0]", "exactly one of key, key_file and key_env"),
    (KEYS.format("{key_env: NOPE}"), "admin.admin_keys[0].key_env", "not set, or is blank"),
    (KEYS.format("k, {key_env: BLANK}"), "admin.admin_keys[1].key_env", "not set, or is blank"),
    (KEYS.format("{name: a, key: k}, {name: a, key: l}"), "admin.admin_keys[1]", "the name of another key"),
    (KEYS.format("{name: key-2, key: k}, l"), "admin.admin_keys[1]", "the name of another key"),
    (KEYS.format("{name: 'a b', key: k}"), "admin.admin_keys[0].name", "must be 1 to 64 letters"),
    (ADMIN.format("playground_proxy_url: 'http://u@x'"), "admin.playground_proxy_url", "must be the http or https URL"),
    (ADMIN.format("history_versions: 201"), "admin.history_versions", "from 1 to 200"),
    (ADMIN.format("audit_days: 0"), "admin.audit_days", "from 1 to 3650"),
    (ETCD.format("endpoints: []"), "etcd.endpoints", "at least one endpoint"),
    (ETCD.format("endpoints: [a, 'ftp://b:1']"), "etcd.endpoints[1]", "must be http://host:port"),
    (ETCD.format("endpoints: ['http://u:s3cr3t@b:1']"), "etcd.endpoints[0]", "must be http://host:port"),
    (ETCD.format("endpoints: [' a:1']"), "etcd.endpoints[0]", "must be http://host:port"),
    (ETCD.format("endpoints: ['http://b:70000']"), "etcd.endpoints[0]", "must be http://host:port"),
    (ETCD.format("endpoints: [' a:1']"), "etcd.endpoints[0]", "must be http://host:port"),
    (ETCD.format(f"endpoints: ['https://a', 'http://b:1'], {TLS}"), "etcd.endpoints[1]", "contradicts etcd.tls"),
    (ETCD.format("endpoints: ['https://a', 'http://b:1']"), "etcd.endpoints", "must not mix"),
    (ETCD.format("endpoints: [a, 'https://b']"), "etcd.endpoints", "must not mix"),
    (ETCD.format("endpoints: [a], prefix: ''"), "etcd.prefix", "a folder of its own"),
    (ETCD.format("endpoints: [a], prefix: //"), "etcd.prefix", "a folder of its own"),
    (ETCD.format("endpoints: [a], prefix: '/a b'"), "etcd.prefix", "a folder of its own"),
    (ETCD.format("endpoints: [a], prefix: /ext"), "etcd.prefix", "must not be the beginning of /ext or /run"),
    (ETCD.format("endpoints: [a], prefix: /r"), "etcd.prefix", "must not be the beginning of /ext or /run"),
    (ETCD.format("endpoints: [a], env_id: a/b"), "etcd.env_id", "one path segment"),
    (ETCD.format("endpoints: [a], user: u, password_env: NOPE"), "etcd.password_env", "is not set"),
    *(
        (PROXY.format(f"request_id: {{accept_headers: [X-Ok, {name}]}}"), "proxy.request_id.accept_headers[1]", reason)
        for name, reason in [
            ("a b", "must be the name of an HTTP header"),
            ("Traceparent", "trace context"),
            ("tracestate", "trace context"),
            *(
                (header, "credentials")
                for header in (
                    *("Authorization", "x-api-key", "x-goog-api-key", "api-key", "x-amz-security-token", "x-amz-date"),
                    *("x-amz-content-sha256", "proxy-authorization", "cookie", "host"),
                )
            ),
        ]
    ),
    (PROXY.format("real_ip: {trusted_proxies: [10.0.0.0/8, x]}"), "proxy.real_ip.trusted_proxies[1]", "IP address"),
    (
        PROXY.format("url_rewrites: [{name: n, match: a, rewrite: b}, {name: n, match: c, rewrite: d}]"),
        *("proxy.url_rewrites", "two rules of one name"),
    ),
    (PROXY.format("url_rewrites: [{match: '(', rewrite: a}]"), "proxy.url_rewrites[0].match", "regular expression"),
    (PROXY.format("url_rewrites: [{match: 'a*', rewrite: a}]"), "proxy.url_rewrites[0].match", "empty path"),
    *(
        (
            PROXY.format(f"url_rewrites: [{{match: '(?<n>a)', rewrite: \"{text}\"}}]"),
            "proxy.url_rewrites[0].rewrite",
            reason,
        )
        for text, reason in [
            ("/a?b", "without query"),
            ("/a#b", "without query"),
            ("/a b", "without query"),
            ("/a\\x07", "without query"),
            ("/$2", "names a capture"),
            ("/$name", "names a capture"),
            ("/$nx", "names a capture"),
            ("/${}", "names a capture"),
            ("/${m}", "names a capture"),
            ("/$1x", "names a capture"),
            ("/${n", "without its }"),
        ]
    ),
    (
        BASE + "observability: {metrics: {prometheus: {path: status/config}}}",
        "observability.metrics.prometheus.path",
        "taken",
    ),
    (
        BASE + "observability: {metrics: {client_type_rules: [{pattern: '', client: A}]}}",
        *("observability.metrics.client_type_rules[0].pattern", "1 to 512 bytes"),
    ),
    (
        BASE + "observability: {metrics: {client_type_rules: [{pattern: '(', client: A}]}}",
        *("observability.metrics.client_type_rules[0].client", "a-z"),
    ),
    (
        BASE + f"observability: {{metrics: {{client_type_rules: [{', '.join(['{pattern: a, client: a}'] * 65)}]}}}}",
        *("observability.metrics.client_type_rules", "at most 64"),
    ),
    *(
        (
            BASE + f"observability: {{metrics: {{buckets: {{request_ttft: {edges}}}}}}}",
            *("observability.metrics.buckets.request_ttft", "each larger than the one before"),
        )
        for edges in ("[]", "''", "[0, 1]", "[-1]", "[2, 1]", "[1, 1]", str(list(range(1, 66))))
    ),
    (
        BASE + "observability: {tracing: {otlp: {enabled: true, endpoint: ' '}}}",
        "observability.tracing.otlp.endpoint",
        "is req",
    ),
    (BASE + "cache: {backend: redis}", "cache.redis", "is required with backend redis"),
    (BASE + "ratelimit: {backend: redis}", "ratelimit.redis", "is required with backend redis"),
    (BASE + "ratelimit: {backend: redis, concurrency_ttl_secs: 0}", "ratelimit.concurrency_ttl_secs", "at least 1"),
    (BASE + "cache: {redis: {}}", "cache.redis.url", "is required in mode single"),
    (BASE + "cache: {redis: {mode: cluster}}", "cache.redis.nodes", "at least one node"),
    (BASE + "cache: {redis: {mode: cluster, nodes: [' ']}}", "cache.redis.nodes[0]", "must not be blank"),
    (BASE + "cache: {redis: {mode: sentinel, master_name: m}}", "cache.redis.sentinels", "at least one sentinel"),
    (
        BASE + "cache: {redis: {mode: sentinel, sentinels: a}}",
        "cache.redis.master_name",
        "is required in mode sentinel",
    ),
    (BASE + "cache: {redis: {url: a, tls: {client_cert_file: a}}}", "cache.redis.tls.client_key_file", "go together"),
    (BASE + "upstream: {tls: {client_key_file: a}}", "upstream.tls.client_cert_file", "go together"),
    (BASE + "secrets: {keyring: [{id: a}]}", "secrets.keyring[0]", "exactly one of file and env"),
    (BASE + "secrets: {keyring: [{id: a, env: A}, {id: a, env: B}]}", "secrets.keyring", "one id twice"),
]


@pytest.mark.parametrize(("text", "path", "reason"), BROKEN)
def test_broken(text: str, path: str, reason: str) -> None:
    found = problems(text)
    assert reason in found[path]
    assert "s3cr3t" not in str(found)


KEPT = [
    "upstream: {tls: {client_key_file: a, client_cert_file: b}}\n",
    "ratelimit: {concurrency_ttl_secs: 0}\n",
    "cache: {redis: {mode: cluster, nodes: [a]}}\n",
    "cache: {redis: {mode: sentinel, sentinels: [a], master_name: m}}\n",
    "observability: {metrics: {buckets: {request_ttft: [0.1]}}}\n",
    "observability: {metrics: {prometheus: {path: status/other}}}\n",
    "observability: {metrics: {client_type_rules: [{pattern: 'a|b', client: a-b.c_1}]}}\n",
    "secrets: {keyring: [{id: a, env: A}, {id: b, file: /b}]}\n",
    *(
        f"managed: {{{setting}}}\n"
        for setting in [
            "cp_base_url: 'https://c:7944/x/', cp_etcd_endpoint: '[::1]:2379'",
            "cp_base_url: 'HTTPS://c'",
            "bootstrap: {token: t, token_file: '', ca_file: ' ', ca_pin: p}",
            "bootstrap: {token: '', token_file: f, ca_file: c, url: 'https://c'}",
            "bootstrap: {ca_file: c}",
            "shrink_share: 0",
            "shrink_share: 1",
            "kubernetes_secret: aisix-mtls, kubernetes_lease: ns-1/aisix.agent",
            f"kubernetes_secret: ' ', kubernetes_lease: {'a' * 63}/{'.'.join(['a' * 63] * 3)}",
            # Which of them go together is the agent's to say: the proxy reads the same file, without its secrets.
            "cp_cert_pem: c, cp_ca_pem: c",
        ]
    ),
]


@pytest.mark.parametrize("text", KEPT)
def test_kept(text: str) -> None:
    loaded(text)


@pytest.mark.parametrize("rewrite", ["/b", "/$1/${1}/$n/${n}", "/$$1", "/$", "/a$/b", "/$0", "/$n-x"])
def test_rewrites_that_work(rewrite: str) -> None:
    rule = f'[{{"match": "(?<n>a)", "rewrite": "{rewrite}"}}]'
    assert loaded("", {"AISIX_PROXY__URL_REWRITES": rule}).settings.proxy.url_rewrites[0].rewrite == rewrite


@pytest.mark.parametrize(
    "endpoint", ["a", "a:1", "http://a:1", "https://a.b:1/", "[::1]:1", "http://[::1]:1", "http://a"]
)
def test_endpoints_that_work(endpoint: str) -> None:
    assert loaded("", {"AISIX_ETCD__ENDPOINTS": endpoint}).settings.etcd.endpoints == (endpoint,)


@pytest.mark.parametrize("endpoints", ["https://a, b:1", "https://a, https://b", "a, b"])
def test_endpoints_that_work_with_tls(endpoints: str) -> None:
    built(ETCD.format(f"endpoints: '{endpoints}', {TLS}"))


def test_file_mode_needs_no_etcd_and_an_empty_etcd_is_none() -> None:
    text = 'proxy: {addr: "1.1.1.1:1"}\nadmin: {admin_keys: [k]}\nresources_file: r\netcd: {prefix: /x}\n'
    assert built(text, {}).settings.resources_file == "r"


BLANK = ("cp_etcd_endpoint", "cp_ca_cert_file", "bootstrap__token", "bootstrap__token_file", "bootstrap__ca_pin")


@pytest.mark.parametrize(
    "name", [*BLANK, *(f"cp_{role}_{kind}" for role in ("cert", "key", "ca") for kind in ("pem", "file"))]
)
def test_blank_is_absent(name: str) -> None:
    """An environment that names every setting leaves some of them blank, and a blank one takes away the file's."""
    section, _, field = name.rpartition("__")
    text = f"managed: {{bootstrap: {{{field}: a}}}}\n" if section else f"managed: {{{name}: 'a:1'}}\n"
    if field.startswith("token"):
        text = text.replace("}}", ", ca_file: c}}")
    given = loaded(text, {f"AISIX_MANAGED__{name.upper()}": " "}).settings.managed
    assert getattr(given.bootstrap if section else given, field) is None


def test_a_rule_stays_silent_about_what_is_wrong_already() -> None:
    assert problems(ETCD.format("endpoints: ['']")).keys() == {"etcd.endpoints[0]"}
    assert problems(BASE + "cache: {backend: redis, redis: 3}").keys() == {"cache.redis"}


def test_an_admin_that_never_binds_needs_no_address_and_no_key() -> None:
    text = 'proxy: {addr: "1.1.1.1:1"}\netcd: {endpoints: [a]}\nadmin: {addr: localhost, enabled: %s}\n'
    built(text % "false", {})
    built(text % "true" + "managed: {enabled: true, cp_base_url: 'https://c'}", {})
    assert problems(text % "true").keys() == {"admin.addr", "admin.admin_keys"}


@pytest.mark.parametrize("text", ["(", "(?P<a", "[", "a{99999999999999999999}", "(?<=a+)b", "\\"])
def test_not_a_pattern(text: str) -> None:
    assert compiled(text) is None


def test_patterns_of_other_engines() -> None:
    pattern = compiled("(?<name>a)(?<!b)", re.IGNORECASE)
    assert pattern is not None
    assert pattern.groupindex == {"name": 1}
