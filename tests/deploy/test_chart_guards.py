"""What cannot work is refused, by the name of the value and with the fix: by the schema where a type says it, and by
the templates (`_guards.tpl`) for what belongs together, also for those who switch the schema off."""

import re
from typing import Any, Final

import pytest

from .matrix import ISSUER, PIN, SETS, TOKEN
from .rendering import CHART, RenderFailed, render, run_helm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

URL: Final = "https://cloud.example.com"


def agent(**values: Any) -> dict[str, Any]:
    return {"mode": "managed", "cloudAgent": {"cloudUrl": URL, **values}}


TOKEN_SECRET: Final = {"existingSecret": "cloud-token"}

CASES: Final[tuple[tuple[str, dict[str, Any], str, str], ...]] = (
    ("mode", {"mode": "cloud"}, "mode", "selfHosted or managed"),
    ("managed-without-url", {"mode": "managed"}, "cloudAgent.cloudUrl", "https://host"),
    ("cloud-without-tls", agent(cloudUrl="http://cloud.example.com"), "cloudAgent.cloudUrl", "https://host"),
    ("managed-without-credential", agent(), "cloudAgent.bootstrapToken.existingSecret", "one-time token"),
    ("token-without-authority", agent(bootstrapToken=TOKEN_SECRET), "cloudAgent.caPin", "caConfigMap"),
    (
        "token-and-bundle",
        agent(bootstrapToken=TOKEN_SECRET, caPin=PIN, bundle={"existingSecret": "b"}),
        "cloudAgent.bundle.existingSecret",
        "Leave one",
    ),
    (
        "pin-and-authority",
        agent(bootstrapToken=TOKEN_SECRET, caPin=PIN, caConfigMap="ca"),
        "cloudAgent.caPin",
        "Leave one",
    ),
    ("admin-in-managed-mode", {**TOKEN, "admin": {"existingSecret": "key"}}, "admin", "selfHosted"),
    ("agent-in-self-hosted-mode", {"cloudAgent": {"cloudUrl": URL}}, "cloudAgent", "managed"),
    ("no-key", {"keyring": {"keys": []}}, "keyring.keys", "Name the keys"),
    ("a-key-twice", {"keyring": {"existingSecret": "k", "keys": ["a", "a"]}}, "keyring.keys", "Leave one"),
    ("keys-that-nobody-makes", {"keyring": {"keys": ["k2", "k1"]}}, "keyring.keys", "keyring.existingSecret"),
    ("tls-without-certificate", {"proxy": {"tls": {"enabled": True}}}, "proxy.tls", "existingSecret"),
    (
        "tls-from-two-sides",
        {
            "proxy": {
                "tls": {
                    "enabled": True,
                    "existingSecret": "s",
                    "certManager": {"enabled": True, "issuerRef": ISSUER, "dnsNames": ["a.example.com"]},
                }
            }
        },
        "proxy.tls.existingSecret",
        "Leave existingSecret blank",
    ),
    (
        "grace-shorter-than-the-longest-stream",
        {"proxy": {"terminationGracePeriodSeconds": 310}},
        "proxy.terminationGracePeriodSeconds",
        "above 310",
    ),
    (
        "scaling-upside-down",
        {"proxy": {"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 2}}},
        "proxy.autoscaling.minReplicas",
        "Lower it",
    ),
    (
        "scaling-by-nothing",
        {"proxy": {"autoscaling": {"enabled": True, "targetCPUUtilizationPercentage": None}}},
        "proxy.autoscaling",
        "metrics",
    ),
    ("ingress-without-hosts", {"proxy": {"ingress": {"enabled": True}}}, "proxy.ingress.hosts", "gateway.example.com"),
    ("route-without-gateway", {"proxy": {"httpRoute": {"enabled": True}}}, "proxy.httpRoute.parentRefs", "Gateway"),
    (
        "ranges-that-nobody-keeps",
        {"proxy": {"service": {"loadBalancerSourceRanges": ["10.0.0.0/8"]}}},
        "proxy.service.loadBalancerSourceRanges",
        "networkPolicy.callers",
    ),
    (
        "admin-to-the-world",
        {"admin": {"service": {"type": "LoadBalancer"}}},
        "admin.service.type",
        "iKnowThisExposesTheAdmin",
    ),
    ("etcd-mode", {"etcd": {"mode": "none"}}, "etcd.mode", "bundled or external"),
    ("external-etcd-without-members", {"etcd": {"mode": "external"}}, "etcd.external.endpoints", "https://host:2379"),
    (
        "external-etcd-without-tls",
        {"etcd": {"mode": "external", "external": {"endpoints": ["http://e:2379"], "tlsSecret": "t"}}},
        "etcd.external.endpoints",
        "https://",
    ),
    ("two-members", {"etcd": {"bundled": {"replicas": 2}}}, "etcd.bundled.replicas", "1 or 3"),
    (
        "backup-to-nowhere",
        {"etcd": {"bundled": {"backup": {"enabled": True}}}},
        "etcd.bundled.backup.existingClaim",
        "PersistentVolumeClaim",
    ),
    (
        "etcd-of-a-broken-release",
        {"etcd": {"bundled": {"image": {"tag": "v3.5.1"}}}},
        "etcd.bundled.image.tag",
        "3.5",
    ),
    ("a-name-no-service-may-have", {"fullnameOverride": "1st"}, "fullnameOverride", "begins with a letter"),
    (
        "a-budget-that-stops-every-drain",
        {"proxy": {"podDisruptionBudget": {"maxUnavailable": 0}}},
        "proxy.podDisruptionBudget.maxUnavailable",
        "enabled: false",
    ),
    (
        "a-budget-that-stops-every-drain-in-percent",
        {"admin": {"podDisruptionBudget": {"enabled": True, "maxUnavailable": "0%"}}},
        "admin.podDisruptionBudget.maxUnavailable",
        "enabled: false",
    ),
    (
        "a-budget-that-costs-the-quorum",
        {"etcd": {"bundled": {"replicas": 3, "podDisruptionBudget": {"maxUnavailable": 2}}}},
        "etcd.bundled.podDisruptionBudget.maxUnavailable",
        "Set it to 1",
    ),
    (
        "an-admin-key-twice",
        {"admin": {"extraKeys": [{"name": "ci", "existingSecret": "a"}, {"name": "ci", "existingSecret": "b"}]}},
        "admin.extraKeys",
        "Choose another",
    ),
    (
        "a-token-twice",
        {"proxy": {"serviceAccount": {"tokens": [{"name": "v", "audience": "a"}, {"name": "v", "audience": "b"}]}}},
        "proxy.serviceAccount.tokens",
        "Choose another",
    ),
    ("unknown-section", {"config": {"proxi": {}}}, "config.proxi", "proxy"),
    ("section-that-is-none", {"config": {"proxy": 5}}, "config.proxy", "below it"),
    ("what-the-chart-sets", {"config": {"etcd": {"endpoints": ["a"]}}}, "config.etcd.endpoints", "etcd.external"),
)


def ids(case: Any) -> str | None:
    return str(case[0]) if isinstance(case, tuple) else None


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_what_cannot_work_is_refused_by_name(case: tuple[str, dict[str, Any], str, str]) -> None:
    _, values, named, _ = case
    with pytest.raises(RenderFailed) as refusal:
        render(values)
    said = str(refusal.value).replace("/", ".")  # as Helm 4 writes the path of a value
    assert named in said


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_the_templates_refuse_it_with_the_fix(case: tuple[str, dict[str, Any], str, str]) -> None:
    _, values, named, fix = case
    with pytest.raises(RenderFailed) as refusal:
        render(values, arguments=["--skip-schema-validation"])
    said = str(refusal.value)
    assert named in said
    assert fix in said
    assert not re.search(r"nil pointer|can't evaluate|wrong type|unexpected", said), said


@pytest.mark.parametrize("values", SETS)
def test_what_works_is_not_refused(values: str) -> None:
    assert render(SETS[values], arguments=["--skip-schema-validation"]).objects


def test_a_release_whose_name_no_service_may_have_is_told_what_to_do() -> None:
    arguments = ["template", "team.gateway", str(CHART), "--values", "-"]
    with pytest.raises(RenderFailed, match=r"fullnameOverride: .* Set it"):
        run_helm("helm4", arguments, "{}")
    assert "kind: Deployment" in run_helm("helm4", arguments, '{"fullnameOverride": "gateway"}')


def test_an_etcd_that_others_read_needs_no_keyring() -> None:
    shared = {"keyring": {"keys": []}, "config": {"secrets": {"allow_plaintext": True}}}
    rendered = render(shared)
    assert "keyring" not in str(rendered.one("Deployment", "proxy"))
    assert "keyring" not in str([item for item in rendered.objects if item["kind"] == "Job"])
