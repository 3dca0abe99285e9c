"""The trust zones - callers, operators, monitoring, etcd, the Cloud - as the rendered NetworkPolicies draw them.

For both modes, `ALLOWED` lists every connection there has to be. All others between what is in a `World` are forbidden,
and each is a test of its own. `kubectl port-forward` and probes come from the node, which policies do not hinder.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeAlias

import pytest

from .reachability import Address, Network, Peer, Pod
from .rendering import NAMESPACE, RELEASE, render

pytestmark = pytest.mark.slow

Port: TypeAlias = int | str
"""TCP, or `53/UDP`."""
Edge: TypeAlias = tuple[str, str, Port]

NAME: Final = "app.kubernetes.io/name"
INSTANCE: Final = "app.kubernetes.io/instance"
COMPONENT: Final = "app.kubernetes.io/component"
JOB: Final = "aisix.io/job"

TIGHT: Final[Mapping[str, Any]] = {
    "networkPolicy": {
        "callers": [{"namespaceSelector": {"matchLabels": {"team": "shop"}}}, {"ipBlock": {"cidr": "192.0.2.0/24"}}],
        "operators": [
            {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ops"}},
                "podSelector": {"matchLabels": {"role": "operator"}},
            }
        ],
        "providers": [{"ipBlock": {"cidr": "198.51.100.0/24"}}],
        "cloud": [{"ipBlock": {"cidr": "203.0.113.10/32"}}],
        "kubernetesApi": [{"ipBlock": {"cidr": "10.96.0.1/32"}}],
    }
}
"""Every zone said as it is in a real network; what the defaults leave open is tested beside it."""
MANAGED: Final[Mapping[str, Any]] = {
    "mode": "managed",
    "cloudAgent": {
        "cloudUrl": "https://cloud.example.com:8443",
        "bootstrapToken": {"existingSecret": "token"},
        "caPin": "67ed8bac71493b5908cc43a5d74097daea9073caa7a2094a6a465b1c5403cd94",
    },
}
WRITER: Final = {"selfHosted": "admin", "managed": "cloud-agent"}

OUTSIDE: Final[Mapping[str, Peer]] = {
    "caller": Pod("caller", "shop", {"app": "shop"}, {"team": "shop"}, "10.1.0.1"),
    "ingress": Address("192.0.2.9"),
    "operator": Pod("operator", "ops", {"role": "operator"}, {}, "10.1.0.2"),
    "colleague": Pod("colleague", "ops", {"role": "intern"}, {}, "10.1.0.3"),
    "prometheus": Pod("prometheus", "monitoring", {"app": "prometheus"}, {}, "10.1.0.4"),
    "dns": Pod("dns", "kube-system", {"k8s-app": "kube-dns"}, {}, "10.1.0.5"),
    "stranger": Pod("stranger", "elsewhere", {NAME: "aisix", INSTANCE: RELEASE, COMPONENT: "admin"}, {}, "10.1.0.6"),
    "neighbour": Pod("neighbour", NAMESPACE, {"app": "other"}, {}, "10.1.0.7"),
    "other-release": Pod("other", NAMESPACE, {NAME: "aisix", INSTANCE: "gw2", COMPONENT: "proxy"}, {}, "10.1.0.8"),
    "internet": Address("203.0.113.200"),
    "provider": Address("198.51.100.20"),
    "cloud": Address("203.0.113.10"),
    "kubernetes": Address("10.96.0.1"),
    "metadata": Address("169.254.169.254"),
}
PORTS: Final[Mapping[str, tuple[Port, ...]]] = {
    "proxy": (3000, 9090),
    "admin": (3001, 9091),
    "cloud-agent": (9092,),
    "etcd": (2379, 2380, 2381),
    "etcd-job": (8080,),
    "secrets-job": (8080,),
    "test": (8080,),
    "dns": (53, "53/UDP", 443),
    "stranger": (443, 3001),
    "neighbour": (443, 8080),
    "internet": (80, 443),
    "provider": (80, 443),
    "cloud": (443, 8443),
    "kubernetes": (443, 6443),
    "metadata": (80, 443),
}

COMMON: Final[tuple[Edge, ...]] = (
    ("caller", "proxy", 3000),
    ("ingress", "proxy", 3000),
    ("prometheus", "proxy", 9090),
    ("prometheus", "etcd", 2381),
    ("proxy", "etcd", 2379),
    ("etcd-job", "etcd", 2379),
    ("etcd", "etcd", 2379),
    ("etcd", "etcd", 2380),
    ("proxy", "provider", 443),
    *((pod, "dns", port) for pod in ("proxy", "etcd", "etcd-job") for port in PORTS["dns"][:2]),
)
ALLOWED: Final[Mapping[str, frozenset[Edge]]] = {
    "selfHosted": frozenset(
        {
            *COMMON,
            ("operator", "admin", 3001),
            ("prometheus", "admin", 9091),
            ("admin", "etcd", 2379),
            ("admin", "proxy", 3000),
            ("admin", "dns", 53),
            ("admin", "dns", "53/UDP"),
        }
    ),
    "managed": frozenset(
        {
            *COMMON,
            ("prometheus", "cloud-agent", 9092),
            ("cloud-agent", "etcd", 2379),
            ("cloud-agent", "cloud", 8443),
            ("cloud-agent", "kubernetes", 443),
            ("cloud-agent", "kubernetes", 6443),
            ("cloud-agent", "dns", 53),
            ("cloud-agent", "dns", "53/UDP"),
        }
    ),
}
BEFORE: Final = frozenset(
    {
        ("secrets-job", "kubernetes", 443),
        ("secrets-job", "kubernetes", 6443),
        ("secrets-job", "dns", 53),
        ("secrets-job", "dns", "53/UDP"),
    }
)
"""Only while the job before an installation runs."""
TESTING: Final[Mapping[str, frozenset[Edge]]] = {
    mode: frozenset(
        {
            ("test", "proxy", 3000),
            ("test", "proxy", 9090),
            ("test", writer, PORTS[writer][0]),
            ("proxy", "test", 8080),
            ("test", "dns", 53),
            ("test", "dns", "53/UDP"),
        }
    )
    for mode, writer in WRITER.items()
}
"""Only while `helm test` runs."""


@dataclass(frozen=True, slots=True)
class World:
    """The policies of a rendering, and everybody there is."""

    network: Network
    peers: Mapping[str, Peer]

    def may(self, source: str, target: str, port: Port) -> bool:
        """Whether it is allowed, in a cluster whose plugin matches pods by their addresses or in one that does not."""
        number, _, protocol = str(port).partition("/")
        one, other = self.peers[source], self.peers[target]
        if source == target:  # another pod of the same kind
            assert isinstance(one, Pod)
            other = one.at("10.2.0.99")
        found = {
            self.network.may(a, b, int(number), protocol or "TCP")
            for a, b in ((one, other), (_without_ip(one), _without_ip(other)))
            if a != b
        }
        return any(found)


def _without_ip(peer: Peer) -> Peer:
    return peer.at("") if isinstance(peer, Pod) else peer


def in_force(rendered: tuple[dict[str, Any], ...], during: str) -> Iterator[dict[str, Any]]:
    """What there is while `during` runs (`test`, `pre-install`), or in between ("")."""
    for each in rendered:
        events = (each["metadata"].get("annotations") or {}).get("helm.sh/hook", "").split(",")
        if events == [""] or during in events:
            yield each


@cache
def objects(values: str) -> tuple[dict[str, Any], ...]:
    """Of a rendering that many tests look at."""
    return render(json.loads(values)).objects


def world(values: Mapping[str, Any], during: str = "") -> World:
    mode = values.get("mode", "selfHosted")
    ours = {
        name: Pod(name, NAMESPACE, {NAME: "aisix", INSTANCE: RELEASE, COMPONENT: name, **more}, ip=f"10.2.0.{number}")
        for number, (name, more) in enumerate(own(mode).items(), 1)
    }
    rendered = objects(json.dumps(values, sort_keys=True))
    return World(Network(in_force(rendered, during), NAMESPACE), {**OUTSIDE, **ours})


def own(mode: str) -> Mapping[str, Mapping[str, str]]:
    """The pods of the release, with what is special about their labels."""
    jobs = {
        "etcd-job": {COMPONENT: "hook", JOB: "etcd-maintain"},
        "secrets-job": {COMPONENT: "hook", JOB: "ensure-secrets"},
    }
    return {"proxy": {}, WRITER[mode]: {}, "etcd": {}, "test": {}, **jobs}


def tight(mode: str, **more: Any) -> Mapping[str, Any]:
    return {**(MANAGED if mode == "managed" else {}), **TIGHT, **more}


def edges(mode: str) -> list[Edge]:
    """Everything one could try in a mode: from everybody to everything, one end being ours."""
    ours = own(mode)
    targets = {**PORTS}
    del targets[WRITER["managed" if mode == "selfHosted" else "selfHosted"]]
    return [
        (source, target, port)
        for source in (*ours, *OUTSIDE)
        for target, ports in targets.items()
        for port in ports
        if (source in ours or target in ours) and source not in ("dns",)
    ]


def cases(*, allowed: bool) -> list[Any]:
    return [
        pytest.param(mode, edge, id=f"{mode}: {edge[0]} -> {edge[1]}:{edge[2]}")
        for mode in WRITER
        for edge in sorted(edges(mode), key=str)
        if (edge in ALLOWED[mode]) is allowed
    ]


@pytest.mark.parametrize(("mode", "edge"), cases(allowed=True))
def test_allowed(mode: str, edge: Edge) -> None:
    assert world(tight(mode)).may(*edge)


@pytest.mark.parametrize(("mode", "edge"), cases(allowed=False))
def test_forbidden(mode: str, edge: Edge) -> None:
    assert not world(tight(mode)).may(*edge)


def reached(there: World, mode: str) -> set[Edge]:
    return {edge for edge in edges(mode) if there.may(*edge)}


@pytest.mark.parametrize("mode", WRITER)
def test_what_is_open_only_while_jobs_and_tests_run(mode: str) -> None:
    assert reached(world(tight(mode), "pre-install"), mode) == ALLOWED[mode] | BEFORE
    assert reached(world(tight(mode), "test"), mode) == ALLOWED[mode] | TESTING[mode]


@pytest.mark.parametrize("mode", WRITER)
def test_by_default_callers_are_everybody_operators_nobody_and_providers_anywhere_on_443(mode: str) -> None:
    values = MANAGED if mode == "managed" else {}
    found = reached(world(values), mode)
    assert ("internet", "proxy", 3000) in found
    assert ("neighbour", "proxy", 3000) in found
    assert not any(target == "admin" and port == 3001 for _, target, port in found)
    assert ("proxy", "internet", 443) in found
    assert ("proxy", "internet", 80) not in found
    assert not any(target == "metadata" for _, target, _ in found)
    assert {edge for edge in found if edge[1] == "etcd"} == {edge for edge in ALLOWED[mode] if edge[1] == "etcd"}
    if mode == "managed":
        assert ("cloud-agent", "cloud", 8443) in found
        assert ("cloud-agent", "internet", 80) not in found


def test_every_pod_of_the_release_is_denied_everything_first() -> None:
    for mode in WRITER:
        there = world(tight(mode))
        for name in own(mode):
            pod = there.peers[name]
            assert isinstance(pod, Pod)
            names = {policy["metadata"]["name"] for policy in there.network.selecting(pod)}
            assert f"{RELEASE}-aisix-default-deny" in names, name


@pytest.mark.parametrize("mode", WRITER)
def test_the_pods_that_are_made_are_those_the_policies_mean(mode: str) -> None:
    """By their labels as rendered; a stranger of `helm test` is meant to be nobody's."""
    backup = {"bundled": {"backup": {"enabled": True, "existingClaim": "backups"}}}
    network = Network(render(tight(mode, etcd=backup)).objects, NAMESPACE)
    assert network.pods, "the chart makes no pods"
    for name, pod in network.pods.items():
        selecting = {policy["metadata"]["name"] for policy in network.selecting(pod)}
        if name.endswith("-stranger"):
            assert selecting == set()
            continue
        assert f"{RELEASE}-aisix-default-deny" in selecting, name
        assert len(selecting) >= 2, f"{name}: denied everything, and nothing is about it"


def test_in_managed_mode_nothing_is_about_an_admin() -> None:
    policies = [item for item in render(tight("managed")).objects if item["kind"] == "NetworkPolicy"]
    assert "admin" not in str([policy["spec"] for policy in policies])
    assert not [policy for policy in policies if policy["metadata"]["name"].endswith("-admin")]


def with_policy(**values: Any) -> Mapping[str, Any]:
    return {"networkPolicy": {**TIGHT["networkPolicy"], **values}}


def test_metadata_services_only_where_they_are_asked_for() -> None:
    for cidr, address in (("0.0.0.0/0", "169.254.169.254"), ("0.0.0.0/0", "168.63.129.16"), ("::/0", "fd00:ec2::254")):
        anywhere = world(with_policy(providers=[{"ipBlock": {"cidr": cidr}}], providerPorts=[80, 443]))
        proxy = anywhere.peers["proxy"]
        assert not anywhere.network.may(proxy, Address(address), 80), address
    anywhere = world(with_policy(providers=[{"ipBlock": {"cidr": "::/0"}}]))
    assert anywhere.network.may(anywhere.peers["proxy"], Address("2001:db8::1"), 443)
    asked = world(with_policy(metadata=True))
    assert asked.may("proxy", "metadata", 80)
    assert not asked.may("proxy", "metadata", 443)
    assert not asked.may("admin", "metadata", 80)


def test_redis_at_the_ports_that_the_configuration_says() -> None:
    redis = Address("10.9.0.1")
    values = with_policy(redis=[{"ipBlock": {"cidr": "10.9.0.0/24"}}])
    there = world(values)
    assert there.network.may(there.peers["proxy"], redis, 6379)
    assert not there.network.may(there.peers["admin"], redis, 6379)
    nodes = {"mode": "cluster", "nodes": ["10.9.0.1:7000", "redis://10.9.0.2:7001/0"]}
    there = world({**values, "config": {"ratelimit": {"redis": nodes}}})
    assert there.network.may(there.peers["proxy"], redis, 7001)
    assert not there.network.may(there.peers["proxy"], redis, 6379)


def external(endpoints: list[str], to: list[Any]) -> World:
    etcd = {"mode": "external", "external": {"endpoints": endpoints, "networkPolicyTo": to}}
    return world({**TIGHT, "etcd": etcd})


def test_an_etcd_of_the_operators_own() -> None:
    there = external(["https://etcd.example:2479"], [{"ipBlock": {"cidr": "10.8.0.0/24"}}])
    etcd, elsewhere = Address("10.8.0.7"), Address("10.8.1.7")
    for name in ("proxy", "admin"):
        assert there.network.may(there.peers[name], etcd, 2479)
        assert not there.network.may(there.peers[name], etcd, 2379)
        assert not there.network.may(there.peers[name], elsewhere, 2479)
    assert not there.network.may(there.peers["proxy"], there.peers["etcd"], 2379)
    by_address = external(["https://10.8.0.7:2379", "https://10.8.0.8:2380"], [])
    assert by_address.network.may(by_address.peers["admin"], etcd, 2379)
    assert not by_address.network.may(by_address.peers["admin"], elsewhere, 2379)
    by_name = external(["https://etcd.example"], [])
    assert by_name.network.may(by_name.peers["admin"], elsewhere, 2379), "nobody said where it is"
    assert not by_name.network.may(by_name.peers["admin"], Address("169.254.169.254"), 2379)
    assert not by_name.network.may(by_name.peers["admin"], elsewhere, 443)


@pytest.mark.parametrize("mode", WRITER)
def test_a_cluster_that_has_ipv6_only_needs_no_other_policies(mode: str) -> None:
    there = world({**(MANAGED if mode == "managed" else {}), "bindAddress": "[::]"}, "pre-install")
    outside, metadata = Address("2001:db8::1"), Address("fd00:ec2::254")
    assert there.network.may(there.peers["secrets-job"], Address("fd00:10:96::1"), 443)
    assert there.network.may(there.peers["proxy"], outside, 443)
    assert not there.network.may(there.peers["proxy"], outside, 80)
    if mode == "managed":
        assert there.network.may(there.peers["cloud-agent"], outside, 8443)
        assert there.network.may(there.peers["cloud-agent"], Address("fd00:10:96::1"), 443)
    for name in ("proxy", WRITER[mode], "secrets-job"):
        assert not there.network.may(there.peers[name], metadata, 443), name


@pytest.mark.parametrize("mode", WRITER)
def test_names_from_where_the_platform_answers_for_them(mode: str) -> None:
    """OpenShift's pods listen on 5353, which is what policies look at; a cache on each node has its own address."""
    values = {"dns": [{"ipBlock": {"cidr": "169.254.20.10/32"}}], "dnsPorts": [5353]}
    there = world({**(MANAGED if mode == "managed" else {}), "networkPolicy": values}, "pre-install")
    for name in own(mode):
        if name != "test":
            assert there.network.may(there.peers[name], Address("169.254.20.10"), 5353), name
            assert there.network.may(there.peers[name], Address("169.254.20.10"), 5353, "UDP"), name
            assert not there.network.may(there.peers[name], Address("169.254.20.10"), 53), name


def test_secrets_of_the_cluster_need_its_api() -> None:
    there = world({**TIGHT, "proxy": {"serviceAccount": {"readSecrets": ["aisix-secret-a"]}}})
    assert there.may("proxy", "kubernetes", 443)
    assert not there.may("admin", "kubernetes", 443)


def test_ports_that_are_taken_away_are_none() -> None:
    """A rule without ports stands for all of them."""
    taken = {"providerPorts": None, "kubernetesApiPorts": None, "dnsPorts": None}
    rendered = render({"networkPolicy": taken, "proxy": {"serviceAccount": {"readSecrets": ["a"]}}})
    for policy in rendered.of("NetworkPolicy"):
        for rule in policy["spec"].get("egress") or ():
            assert rule["ports"], policy["metadata"]["name"]


def test_lists_that_are_empty_are_nobody() -> None:
    there = world(with_policy(monitoring=[], operators=[], providers=[], dns=[]))
    found = reached(there, "selfHosted")
    assert {edge for edge in found if edge[1] in ("admin", "provider", "dns", "internet")} == set()
    assert {edge[1:] for edge in found if edge[0] == "prometheus"} == set()


@pytest.mark.parametrize("mode", WRITER)
def test_no_rule_is_open_by_accident(mode: str) -> None:
    """An empty list of peers or ports stands for all of them: only callers may be everybody, and on one port."""
    for values in (tight(mode), MANAGED if mode == "managed" else {}):
        for policy in render(values).of("NetworkPolicy"):
            spec = policy["spec"]
            for rule in spec.get("egress") or ():
                assert rule["to"], policy["metadata"]["name"]
                assert rule["ports"], policy["metadata"]["name"]
            for rule in spec.get("ingress") or ():
                assert rule["ports"], policy["metadata"]["name"]
                if not rule.get("from"):
                    assert rule["ports"] == [{"protocol": "TCP", "port": 3000}]
                    assert "networkPolicy" not in values


def test_none_where_they_are_not_wanted() -> None:
    assert render({"networkPolicy": {"enabled": False}}).of("NetworkPolicy") == []
