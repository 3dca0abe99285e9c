"""The evaluator answers as Kubernetes defines NetworkPolicies."""

from typing import Any

import pytest

from .reachability import Address, Network, Pod, in_block, selects

A = Pod("a", "one", {"app": "a"}, ports={"web": (8080, "TCP")})
B = Pod("b", "one", {"app": "b"})
FAR = Pod("far", "two", {"app": "b"}, namespace_labels={"team": "two"})
OUTSIDE = Address("203.0.113.7")


def policy(pods: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "kind": "NetworkPolicy",
        "metadata": {"name": "p", "namespace": "one"},
        "spec": {"podSelector": pods, **spec},
    }


def allowing(*rules: dict[str, Any]) -> Network:
    """Of the pod `a`, ingress by these rules."""
    return Network([policy({"matchLabels": {"app": "a"}}, policyTypes=["Ingress"], ingress=list(rules))])


def test_everything_is_allowed_where_no_policy_selects() -> None:
    network = Network([policy({"matchLabels": {"app": "a"}}, policyTypes=["Ingress"])])
    assert network.may(A, B, 80)
    assert network.may(OUTSIDE, B, 80)
    assert not network.may(B, A, 80)
    assert network.may(A, A, 80), "a pod reaches itself"
    elsewhere = Pod("a", "two", {"app": "a"})
    assert network.may(B, elsewhere, 80), "a policy is about its own namespace"


def test_both_ends_must_allow() -> None:
    out = policy({"matchLabels": {"app": "b"}}, policyTypes=["Egress"], egress=[{"ports": [{"port": 80}]}])
    into = policy({"matchLabels": {"app": "a"}}, policyTypes=["Ingress"], ingress=[{"ports": [{"port": 90}]}])
    assert Network([out]).may(B, A, 80)
    assert Network([into]).may(B, A, 90)
    both = Network([out, into])
    assert not both.may(B, A, 80)
    assert not both.may(B, A, 90)
    assert both.may_leave(B, A, 80)
    assert both.may_enter(B, A, 90)


def test_policies_add_up() -> None:
    deny = policy({}, policyTypes=["Ingress", "Egress"])
    some = policy({"matchLabels": {"app": "a"}}, ingress=[{"from": [{"podSelector": {}}]}])
    assert not Network([deny]).may(B, A, 80)
    more = policy({"matchLabels": {"app": "b"}}, policyTypes=["Egress"], egress=[{}])
    assert Network([deny, some, more]).may(B, A, 80)
    assert not Network([deny, some, more]).may(A, B, 80)


def test_directions_that_are_not_said() -> None:
    assert Network([policy({})]).may_leave(A, B, 1), "no egress rules: only about ingress"
    assert not Network([policy({}, egress=[{"ports": [{"port": 2}]}])]).may_leave(A, B, 1)
    assert not Network([policy({}, egress=[{"ports": [{"port": 2}]}])]).may_enter(B, A, 1)


@pytest.mark.parametrize(
    ("peer", "near", "far"),
    [
        ({"podSelector": {}}, True, False),
        ({"podSelector": {"matchLabels": {"app": "b"}}}, True, False),
        ({"podSelector": {"matchLabels": {"app": "c"}}}, False, False),
        ({"namespaceSelector": {}}, True, True),
        ({"namespaceSelector": {"matchLabels": {"team": "two"}}}, False, True),
        ({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "two"}}}, False, True),
        (
            {"namespaceSelector": {"matchLabels": {"team": "two"}}, "podSelector": {"matchLabels": {"app": "c"}}},
            False,
            False,
        ),
        ({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "b"}}}, True, True),
        ({"ipBlock": {"cidr": "0.0.0.0/0"}}, False, False),
    ],
)
def test_peers(peer: dict[str, Any], near: bool, far: bool) -> None:
    network = allowing({"from": [peer]})
    assert network.may(B, A, 80) is near
    assert network.may(FAR, A, 80) is far


def test_no_peers_are_everybody() -> None:
    rules: list[dict[str, Any]] = [{}, {"from": []}]
    for rule in rules:
        assert allowing(rule).may(OUTSIDE, A, 80)
        assert allowing(rule).may(FAR, A, 80)
    assert not allowing().may(FAR, A, 80), "no rules are nobody"


def test_blocks() -> None:
    network = allowing({"from": [{"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.128/25"]}}]})
    assert network.may(OUTSIDE, A, 80)
    assert not network.may(Address("203.0.113.200"), A, 80)
    assert not network.may(Address("198.51.100.1"), A, 80)
    assert not network.may(B, A, 80)
    assert network.may(B.at("203.0.113.9"), A, 80), "a plugin that looks at addresses"
    assert not in_block({"cidr": "0.0.0.0/0"}, "fd00::1")
    assert in_block({"cidr": "::/0", "except": ["fe80::/10"]}, "fd00::1")


@pytest.mark.parametrize(
    ("ports", "allowed"),
    [
        (None, True),
        ([], True),
        ([{"port": 8080}], True),
        ([{"port": 8081}], False),
        ([{"port": 8080, "protocol": "UDP"}], False),
        ([{"protocol": "TCP"}], True),
        ([{"protocol": "UDP"}], False),
        ([{"port": "web"}], True),
        ([{"port": "other"}], False),
        ([{"port": 8000, "endPort": 8080}], True),
        ([{"port": 8000, "endPort": 8079}], False),
        ([{"port": 1}, {"port": "web"}], True),
    ],
)
def test_ports(ports: list[dict[str, Any]] | None, allowed: bool) -> None:
    rule = {} if ports is None else {"ports": ports}
    assert allowing(rule).may(B, A, 8080) is allowed


def test_a_named_port_is_the_targets() -> None:
    network = Network(
        [policy({"matchLabels": {"app": "b"}}, policyTypes=["Egress"], egress=[{"ports": [{"port": "web"}]}])]
    )
    assert network.may(B, A, 8080)
    assert not network.may(B, FAR, 8080)
    assert not network.may(B, OUTSIDE, 8080)


@pytest.mark.parametrize(
    ("expression", "matches"),
    [
        ({"key": "app", "operator": "In", "values": ["a", "b"]}, True),
        ({"key": "app", "operator": "In", "values": ["b"]}, False),
        ({"key": "none", "operator": "In", "values": ["b"]}, False),
        ({"key": "app", "operator": "NotIn", "values": ["b"]}, True),
        ({"key": "none", "operator": "NotIn", "values": ["b"]}, True),
        ({"key": "app", "operator": "Exists"}, True),
        ({"key": "none", "operator": "Exists"}, False),
        ({"key": "none", "operator": "DoesNotExist"}, True),
    ],
)
def test_expressions(expression: dict[str, Any], matches: bool) -> None:
    assert selects({"matchExpressions": [expression]}, A.labels) is matches


def test_pods_of_workloads() -> None:
    template = {
        "metadata": {"labels": {"app": "x"}},
        "spec": {"containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 80}, {"containerPort": 81}]}]},
    }
    network = Network(
        [
            {"kind": "Deployment", "metadata": {"name": "d"}, "spec": {"template": template}},
            {
                "kind": "CronJob",
                "metadata": {"name": "c", "namespace": "other"},
                "spec": {"jobTemplate": {"spec": {"template": template}}},
            },
            {"kind": "Service", "metadata": {"name": "s"}, "spec": {}},
        ],
        "here",
    )
    assert set(network.pods) == {"d", "c"}
    assert network.pods["d"] == Pod("d", "here", {"app": "x"}, ports={"web": (80, "TCP")})
    assert network.pods["c"].namespace == "other"
