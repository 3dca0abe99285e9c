"""Who may reach whom, by the NetworkPolicies among rendered objects: what a cluster that enforces them would do.

    network = Network(objects, namespace="gateway")
    pods = network.pods                       # one for each workload, by the name of the workload
    network.may(pods["g-proxy"], pods["g-etcd"], 2379)
    network.may(Pod("app", namespace="shop", namespace_labels={"team": "shop"}), pods["g-admin"], 3001)
    network.may(pods["g-proxy"], Address("169.254.169.254"), 80)

The rules are those of networking.k8s.io/v1: where no policy selects a pod for a direction, everything is allowed in
it; where some do, what any of them allows. A connection needs the egress of its source and the ingress of its target. A
pod may always reach itself. Whether an `ipBlock` also means pods with such an address differs between network plugins:
a pod with an `ip` is matched by it, one without is not, so that a test can ask for both.

Not modelled: the node a pod runs on may always reach it (probes and `kubectl port-forward` come from there); Services,
which policies do not see; pods on the network of their host.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from ipaddress import ip_address, ip_network
from typing import Any, Final, Literal, TypeAlias

Object: TypeAlias = Mapping[str, Any]
Direction: TypeAlias = Literal["Ingress", "Egress"]

NAMESPACE_NAME: Final = "kubernetes.io/metadata.name"
_NONE: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod as policies see it."""

    name: str
    namespace: str = "default"
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    """Besides the one with its name, which every namespace has."""
    ip: str = ""
    ports: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    """Named ports: number and protocol."""

    @property
    def home(self) -> Mapping[str, str]:
        """All labels of its namespace."""
        return {**self.namespace_labels, NAMESPACE_NAME: self.namespace}

    def at(self, ip: str) -> "Pod":
        """The same with an address."""
        return replace(self, ip=ip)


@dataclass(frozen=True, slots=True)
class Address:
    """Something that is no pod."""

    ip: str


Peer: TypeAlias = Pod | Address


class Network:
    """What the policies among `objects` allow; objects that name no namespace are in `namespace`."""

    def __init__(self, objects: Iterable[Object], namespace: str = "default") -> None:
        self._objects = [each for each in objects if each]
        self._namespace = namespace

    @cached_property
    def policies(self) -> Sequence[Object]:
        """All NetworkPolicies."""
        return [each for each in self._objects if each["kind"] == "NetworkPolicy"]

    @cached_property
    def pods(self) -> Mapping[str, Pod]:
        """One for each workload, by its name."""
        found = {}
        for each in self._objects:
            template = pod_template(each)
            if template is not None:
                name = each["metadata"]["name"]
                found[name] = self._pod(name, self._home(each), template)
        return found

    def selecting(self, pod: Pod, direction: Direction | None = None) -> Sequence[Object]:
        """The policies that a pod is subject to (in a direction)."""
        return [
            policy
            for policy in self.policies
            if self._home(policy) == pod.namespace
            and selects(policy["spec"].get("podSelector") or {}, pod.labels)
            and (direction is None or direction in policy_types(policy))
        ]

    def may(self, source: Peer, target: Peer, port: int, protocol: str = "TCP") -> bool:
        """Whether `source` may open a connection to `port` of `target`."""
        if isinstance(source, Pod) and source == target:
            return True
        return self.may_leave(source, target, port, protocol) and self.may_enter(source, target, port, protocol)

    def may_leave(self, source: Peer, target: Peer, port: int, protocol: str = "TCP") -> bool:
        """The egress half of it."""
        return self._allowed("Egress", source, target, target, port, protocol)

    def may_enter(self, source: Peer, target: Peer, port: int, protocol: str = "TCP") -> bool:
        """The ingress half of it."""
        return self._allowed("Ingress", target, source, target, port, protocol)

    def _allowed(
        self, direction: Direction, subject: Peer, other: Peer, target: Peer, port: int, protocol: str
    ) -> bool:
        if not isinstance(subject, Pod):
            return True  # nobody's policies are about it
        policies = self.selecting(subject, direction)
        rules, peers = ("ingress", "from") if direction == "Ingress" else ("egress", "to")
        return not policies or any(
            self._has_peer(rule.get(peers), other, self._home(policy))
            and has_port(rule.get("ports"), target, port, protocol)
            for policy in policies
            for rule in policy["spec"].get(rules) or ()
        )

    @staticmethod
    def _has_peer(peers: Sequence[Object] | None, other: Peer, home: str) -> bool:
        """No peers at all stand for everybody."""
        return not peers or any(is_peer(peer, other, home) for peer in peers)

    def _home(self, object: Object) -> str:
        name: str = object["metadata"].get("namespace") or self._namespace
        return name

    def _pod(self, name: str, namespace: str, template: Object) -> Pod:
        ports = {
            port["name"]: (port["containerPort"], port.get("protocol", "TCP"))
            for container in template["spec"].get("containers") or ()
            for port in container.get("ports") or ()
            if "name" in port
        }
        return Pod(name, namespace, (template.get("metadata") or {}).get("labels") or {}, ports=ports)


def pod_template(object: Object) -> Object | None:
    """What the pods of a workload are made from; None where the object is no workload."""
    match object["kind"]:
        case "Pod":
            return object
        case "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job":
            template: Object = object["spec"]["template"]
            return template
        case "CronJob":
            of_jobs: Object = object["spec"]["jobTemplate"]["spec"]["template"]
            return of_jobs
    return None


def policy_types(policy: Object) -> Sequence[str]:
    """The directions a policy is about; where it does not say so, Egress only if it has such rules."""
    spec = policy["spec"]
    said: Sequence[str] | None = spec.get("policyTypes")
    return said or (["Ingress", "Egress"] if spec.get("egress") else ["Ingress"])


def is_peer(peer: Object, other: Peer, home: str) -> bool:
    """Whether an entry of `from` or `to` means `other`; `home` is the namespace of the policy."""
    block = peer.get("ipBlock")
    if block is not None:
        return bool(other.ip) and in_block(block, other.ip)
    if not isinstance(other, Pod):
        return False
    namespaces, pods = peer.get("namespaceSelector"), peer.get("podSelector")
    here = other.namespace == home if namespaces is None else selects(namespaces, other.home)
    return here and (pods is None or selects(pods, other.labels))


def in_block(block: Object, ip: str) -> bool:
    """Whether an address is in an `ipBlock`, and in none of its exceptions."""
    address = ip_address(ip)
    return _contains(block["cidr"], address) and not any(_contains(each, address) for each in block.get("except") or ())


def _contains(cidr: str, address: Any) -> bool:
    network = ip_network(cidr)
    return network.version == address.version and address in network


def has_port(ports: Sequence[Object] | None, target: Peer, port: int, protocol: str) -> bool:
    """Whether a rule's `ports` mean this one of `target`; no ports at all stand for all of them."""
    return not ports or any(_is_port(each, target, port, protocol) for each in ports)


def _is_port(entry: Object, target: Peer, port: int, protocol: str) -> bool:
    if entry.get("protocol", "TCP") != protocol:
        return False
    wanted = entry.get("port")
    if wanted is None:
        return True
    if isinstance(wanted, str):
        return isinstance(target, Pod) and target.ports.get(wanted) == (port, protocol)
    return bool(wanted <= port <= entry.get("endPort", wanted))


def selects(selector: Object, labels: Mapping[str, str]) -> bool:
    """Whether a label selector means these labels; an empty one means all."""
    equal: Mapping[str, str] = selector.get("matchLabels") or _NONE
    return all(labels.get(key) == value for key, value in equal.items()) and all(
        _OPERATORS[each["operator"]](labels.get(each["key"]), each.get("values") or ())
        for each in selector.get("matchExpressions") or ()
    )


_OPERATORS: Final[Mapping[str, Callable[[str | None, Sequence[str]], bool]]] = {
    "In": lambda value, values: value is not None and value in values,
    "NotIn": lambda value, values: value is None or value not in values,
    "Exists": lambda value, _: value is not None,
    "DoesNotExist": lambda value, _: value is None,
}
