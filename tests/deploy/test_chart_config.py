"""The config.yaml of each service, as the chart renders it, is loaded by the services' own loader: no problem, and
nothing that an operator would be warned of. What it names lies where the pod mounts it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from aisix_common.settings import Settings, load
from aisix_common.settings.rules import check
from aisix_common.settings.walker import leaves

from .matrix import SETS, TOKEN
from .rendering import NAMESPACE, NEWEST, OLDEST, RELEASE, Pod, Rendered, RenderFailed, render

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SERVICES: Final = ("proxy", "admin", "cloud-agent")
FULLNAME: Final = f"{RELEASE}-aisix"

MORE: Final[Mapping[str, Mapping[str, Any]]] = {
    **SETS,
    "shared-user": {
        "etcd": {
            "mode": "external",
            "external": {"endpoints": ["http://etcd:2379"], "authSecret": "users", "sharedUser": True},
        }
    },
    "admin-keys": {
        "admin": {
            "extraKeys": [
                {"name": "ci", "existingSecret": "ci-key", "key": "key", "role": "admin"},
                {"name": "audit", "existingSecret": "audit-key"},
            ],
            "tls": {"enabled": True, "existingSecret": "admin-tls"},
        }
    },
    "no-keyring": {"keyring": {"keys": []}, "config": {"secrets": {"allow_plaintext": True}}},
    "ipv6": {"bindAddress": "[::]"},
    "nulls": {
        "config": {"proxy": {"tls": None}, "etcd": None, "admin": {"admin_keys": None}, "cache": {"redis": None}}
    },
    "config": {
        "config": {
            "proxy": {"request_body_limit_bytes": 52428800, "real_ip": {"trusted_proxies": ["10.0.0.0/8"]}},
            "admin": {"playground_proxy_url": "", "audit_days": 30},
            "etcd": {"prefix": "/gw", "env_id": "0123", "tls": {"domain_name": "etcd.example.com"}},
            "observability": {"log_level": "debug", "metrics": {"buckets": {"request_ttft": [0.1, 2]}}},
            "managed": {"usage": {"max_bytes": 10737418240}},
        }
    },
}
"""The chart's value sets, and some for what only config.yaml shows."""

UNHEARD: Final = {"no-keyring": "secrets.allow_plaintext is true without a keyring"}
"""How warnings begin that are meant to be there."""


GUARDS_ALONE: Final = ("--skip-schema-validation",)
"""The schema refuses much of it before, in its own words; whoever skips it still has the guards."""


def pods(chart: Rendered) -> Iterator[Pod]:
    """Those of our services."""
    for pod in chart.pods():
        if pod.component in SERVICES and pod.owner.startswith("Deployment/"):
            yield pod


def config_text(chart: Rendered, pod: Pod) -> str:
    """/etc/aisix/config.yaml as the container sees it."""
    volume = next(each for each in pod.spec["volumes"] if each["name"] == "config")
    item = volume["configMap"]["items"][0]
    assert item["path"] == "config.yaml"
    config = chart.named("ConfigMap", volume["configMap"]["name"])
    assert config is not None
    text: str = config["data"][item["key"]]
    return text


def environ(pod: Pod) -> dict[str, str]:
    """The container's variables; those out of Secrets have a text that stands for them."""
    return {each["name"]: each.get("value", "out-of-a-secret") for each in pod.containers[0].get("env", [])}


def loaded(chart: Rendered, pod: Pod, folder: Path, name: str) -> Settings:
    path = folder / "config.yaml"
    path.write_text(config_text(chart, pod))
    found = load(path, environ(pod))
    unheard = UNHEARD.get(name)
    assert [each for each in found.warnings if unheard is None or not each.startswith(unheard)] == []
    return found.settings


@pytest.mark.parametrize("name", MORE)
def test_every_service_takes_its_configuration(name: str, tmp_path: Path) -> None:
    chart = render(MORE[name], arguments=GUARDS_ALONE)
    managed = MORE[name].get("mode") == "managed"
    seen = {}
    for pod in pods(chart):
        settings = loaded(chart, pod, tmp_path, name)
        assert list(check(settings, environ(pod))) == []
        seen[pod.component] = settings
    assert set(seen) == {"proxy", "cloud-agent" if managed else "admin"}
    assert seen["proxy"].admin_binds is False
    if managed:
        agent = seen["cloud-agent"].managed
        assert (agent.kubernetes_secret, agent.kubernetes_lease) == (f"{FULLNAME}-cloud", f"{FULLNAME}-cloud-agent")
        assert seen["proxy"].managed.bootstrap.wanted is False
        assert seen["proxy"].managed.cp_key_file is None
    else:
        assert seen["admin"].admin_binds is True
    assert len({settings.etcd.endpoints for settings in seen.values()}) == 1
    assert len({settings.secrets.keyring for settings in seen.values()}) == 1


@pytest.mark.parametrize("name", MORE)
def test_every_file_that_a_configuration_names_is_mounted(name: str) -> None:
    """And from a whole volume: a change of what is mounted by `subPath` never arrives."""
    chart = render(MORE[name], arguments=GUARDS_ALONE)
    for pod in pods(chart):
        mounts = pod.containers[0]["volumeMounts"]
        assert [each["name"] for each in mounts if "subPath" in each] == []
        folders = {each["mountPath"]: each["name"] for each in mounts}
        volumes = {each["name"] for each in pod.spec["volumes"]}
        assert set(folders.values()) <= volumes
        assert volumes <= set(folders.values())
        for path in _files(yaml.safe_load(config_text(chart, pod))):
            assert str(Path(path).parent) in folders, f"{pod.component}: {path}"
        writable = {each["mountPath"] for each in mounts if not each.get("readOnly")}
        assert writable == {"/var/lib/aisix", "/tmp"}


def _files(value: Any) -> Iterator[str]:
    """Every file of a secret that a configuration names."""
    if isinstance(value, str) and value.startswith("/run/"):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _files(inner)


def test_what_the_user_writes_under_config_arrives_beside_what_the_chart_sets(tmp_path: Path) -> None:
    chart = render(MORE["config"])
    proxy, admin = (loaded(chart, pod, tmp_path, "config") for pod in sorted(pods(chart), key=_proxy_first))
    assert proxy.proxy.request_body_limit_bytes == 52428800
    assert proxy.managed.usage.max_bytes == 10737418240
    assert str(proxy.proxy.addr) == "0.0.0.0:3000"
    assert proxy.etcd.resource_root == "/gw/0123"
    assert proxy.etcd.tls is not None
    assert proxy.etcd.tls.domain_name == "etcd.example.com"
    assert proxy.etcd.tls.ca_cert_file == "/run/aisix/etcd/ca.crt"
    assert proxy.observability.metrics.buckets.request_ttft == (0.1, 2)
    assert admin.admin.audit_days == 30
    assert admin.admin.playground_proxy_url is None


def _proxy_first(pod: Pod) -> bool:
    return pod.component != "proxy"


def test_settings_that_are_all_commented_out_are_none() -> None:
    for mode in ({}, TOKEN):
        assert render({**mode, "config": None}).objects == render(mode).objects


def test_keys_of_the_keyring_stay_in_their_order(tmp_path: Path) -> None:
    chart = render(MORE["external-etcd"])
    for pod in pods(chart):
        settings = loaded(chart, pod, tmp_path, "external-etcd")
        assert [key.id for key in settings.secrets.keyring] == ["k2", "k1"]
        assert settings.etcd.user == "out-of-a-secret"


def test_each_service_logs_in_to_etcd_as_itself(tmp_path: Path) -> None:
    for values in ({}, TOKEN):
        chart = render(values)
        for pod in pods(chart):
            settings = loaded(chart, pod, tmp_path, "default")
            assert settings.etcd.user == pod.component
            (password,) = [each for each in pod.containers[0]["env"] if each["name"] == settings.etcd.password_env]
            assert password["valueFrom"]["secretKeyRef"] == {
                "name": f"{FULLNAME}-etcd-auth",
                "key": f"{pod.component}-password",
            }
            (volume,) = [each for each in pod.spec["volumes"] if each["name"] == "etcd-tls"]
            assert volume["secret"]["secretName"] == f"{FULLNAME}-etcd-client-{pod.component}"


def test_one_user_of_an_external_etcd_for_all() -> None:
    for pod in pods(render(MORE["shared-user"])):
        keys = {each["name"]: each["valueFrom"]["secretKeyRef"]["key"] for each in pod.containers[0]["env"]}
        assert keys == {"AISIX_ETCD__USER": "user", "AISIX_ETCD_PASSWORD": "password"}


def test_a_changed_setting_restarts_the_services_it_is_for() -> None:
    def checksums(values: Mapping[str, Any]) -> dict[str, str]:
        return {pod.component: pod.annotations["checksum/config"] for pod in pods(render(values))}

    before = checksums({})
    assert checksums({"proxy": {"replicas": 5}}) == before
    drained = checksums({"proxy": {"drain": {"minDrainSeconds": 7}}})
    assert drained["proxy"] != before["proxy"]
    assert drained["admin"] == before["admin"]
    logged = checksums({"config": {"observability": {"log_level": "debug"}}})
    assert all(logged[component] != before[component] for component in before)


def test_the_proxies_may_read_the_secrets_they_are_given_a_role_for(tmp_path: Path) -> None:
    values: dict[str, Any] = {"proxy": {"serviceAccount": {"readSecrets": ["provider-keys", "more"]}}}
    chart = render(values)
    (pod,) = [pod for pod in pods(chart) if pod.component == "proxy"]
    settings = loaded(chart, pod, tmp_path, "default")
    assert settings.secrets.kubernetes_allow == (f"{NAMESPACE}/provider-keys", f"{NAMESPACE}/more")
    assert pod.spec["automountServiceAccountToken"] is True
    (rule,) = chart.one("Role", "proxy")["rules"]
    assert (rule["resourceNames"], rule["verbs"]) == (["provider-keys", "more"], ["get"])
    own = render({**values, "config": {"secrets": {"kubernetes_allow": ["x/*"]}}})
    (pod,) = [pod for pod in pods(own) if pod.component == "proxy"]
    assert loaded(own, pod, tmp_path, "default").secrets.kubernetes_allow == ("x/*",)


def test_tokens_for_secret_managers_are_bound_to_their_audience() -> None:
    tokens = [{"name": "aws", "audience": "sts.amazonaws.com"}, {"name": "vault", "audience": "vault"}]
    tokens[1]["asServiceAccount"] = True  # type: ignore[assignment]
    chart = render({"proxy": {"serviceAccount": {"tokens": tokens}}})
    (pod,) = [pod for pod in pods(chart) if pod.component == "proxy"]
    assert pod.spec["automountServiceAccountToken"] is False
    places = {each["name"]: each["mountPath"] for each in pod.containers[0]["volumeMounts"]}
    assert places["token-aws"] == "/run/aisix/tokens/aws"
    assert places["token-vault"] == "/var/run/secrets/kubernetes.io/serviceaccount"
    sources = {each["name"]: each["projected"]["sources"] for each in pod.spec["volumes"] if "projected" in each}
    token = {"audience": "vault", "expirationSeconds": 3600, "path": "token"}
    assert sources["token-vault"][0]["serviceAccountToken"] == token
    assert len(sources["token-aws"]) == 1


def test_the_agent_may_touch_one_secret_and_one_lease() -> None:
    chart = render(TOKEN)
    role = chart.one("Role", "cloud-agent")
    assert [(rule["resources"], rule["resourceNames"], rule["verbs"]) for rule in role["rules"]] == [
        (["secrets"], [f"{FULLNAME}-cloud"], ["get", "watch", "update", "patch"]),
        (["leases"], [f"{FULLNAME}-cloud-agent"], ["get", "watch", "update", "patch"]),
    ]
    secret = chart.named("Secret", f"{FULLNAME}-cloud")
    assert secret is not None
    assert secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    # With either of them, an upgrade would write over what the agent keeps there.
    assert "data" not in secret
    assert "stringData" not in secret
    lease = chart.named("Lease", f"{FULLNAME}-cloud-agent")
    assert lease is not None
    assert "spec" not in lease


@pytest.mark.parametrize("kubernetes", [OLDEST, NEWEST])
def test_a_proxy_waits_before_it_is_told_to_end(kubernetes: str) -> None:
    chart = render({"proxy": {"drain": {"preStopSeconds": 7}}}, kubernetes=kubernetes)
    (pod,) = [pod for pod in pods(chart) if pod.component == "proxy"]
    hook = pod.containers[0]["lifecycle"]["preStop"]
    if kubernetes == OLDEST:
        assert hook == {"exec": {"command": ["python", "-c", "import time; time.sleep(7)"]}}
    else:
        assert hook == {"sleep": {"seconds": 7}}
    assert pod.spec["terminationGracePeriodSeconds"] > 7 + 5 + 300


def test_liveness_outlasts_the_drain() -> None:
    """/livez answers 503 while a service drains (docs/operations.md)."""
    for seconds in (0, 5, 60, 61):
        chart = render({"proxy": {"drain": {"minDrainSeconds": seconds}}})
        (pod,) = [pod for pod in pods(chart) if pod.component == "proxy"]
        probe = pod.containers[0]["livenessProbe"]
        assert probe["periodSeconds"] * (probe["failureThreshold"] - 1) > seconds


def test_the_sections_that_the_chart_knows_are_those_of_the_settings() -> None:
    known = {path.partition(".")[0] for path, _ in leaves(Settings)}
    with pytest.raises(RenderFailed) as refused:
        render({"config": {"proxies": {}}})
    listed = str(refused.value).partition("one of: ")[2].partition(".")[0]
    assert set(listed.split(", ")) == known


REFUSED: Final[Mapping[str, tuple[Mapping[str, Any], str]]] = {
    "a setting of the chart": ({"config": {"proxy": {"addr": "0.0.0.0:80"}}}, "config.proxy.addr: is not set here"),
    "by a variable": (
        {"proxy": {"extraEnv": [{"name": "AISIX_PROXY__ADDR", "value": "0.0.0.0:80"}]}},
        "proxy.extraEnv[0]: AISIX_PROXY__ADDR would replace proxy.addr",
    ),
    "a password in a variable": (
        {"proxy": {"extraEnv": [{"name": "AISIX_SECRET_OPENAI", "value": "canary"}]}},
        "Use valueFrom.secretKeyRef",
    ),
    "a password in an address": (
        {"config": {"ratelimit": {"redis": {"url": "redis://u:canary@redis"}}}},
        "Set AISIX_RATELIMIT__REDIS__URL in proxy.extraEnv",
    ),
    "a token of a manager": (
        {"config": {"secrets": {"providers": [{"id": "v", "options": {"auth": {"token": "canary"}}}]}}},
        "config.secrets.providers[0].options.auth.token: is a secret",
    ),
    "managed without a Cloud": ({"mode": "managed"}, "cloudAgent.cloudUrl"),
    "managed with nothing to begin with": (
        {"mode": "managed", "cloudAgent": {"cloudUrl": "https://c"}},
        "cloudAgent",
    ),
    "a token for anybody": (
        {"mode": "managed", "cloudAgent": {"cloudUrl": "https://c", "bootstrapToken": {"existingSecret": "t"}}},
        "caPin",
    ),
    "an admin in managed mode": ({**TOKEN, "admin": {"existingSecret": "s"}}, "admin"),
    "a Cloud in the other mode": ({"cloudAgent": {"cloudUrl": "https://c"}}, "cloudAgent"),
    "two members": ({"etcd": {"bundled": {"replicas": 2}}}, "replicas"),
    "an etcd that is nowhere": ({"etcd": {"mode": "external"}}, "endpoints"),
    "a stream cut off": (
        {"proxy": {"terminationGracePeriodSeconds": 310}},
        "proxy.terminationGracePeriodSeconds: is 310, and a stream could be cut off. Set it above 310",
    ),
    "an admin for everybody": ({"admin": {"service": {"type": "NodePort"}}}, "iKnowThisExposesTheAdmin"),
    "TLS without a certificate": ({"proxy": {"tls": {"enabled": True}}}, "proxy.tls"),
    "no keyring": ({"keyring": {"keys": []}}, "keyring"),
    "a key that nobody makes": ({"keyring": {"keys": ["k2", "k1"]}}, "keyring"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused_with_the_fix(name: str) -> None:
    values, said = REFUSED[name]
    with pytest.raises(RenderFailed) as refused:
        render(values, arguments=GUARDS_ALONE)
    assert said in str(refused.value)
    assert "canary" not in str(refused.value)
