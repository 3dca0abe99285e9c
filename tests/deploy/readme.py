"""The chart's README, made from values.yaml and from the text around it, README.md.head.

    python -m tests.deploy.readme > deploy/helm/aisix/README.md

A comment right above a key describes it. Keys that mean the same everywhere, and are known from Kubernetes, are
described once, here.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from .rendering import CHART

WELL_KNOWN: Final[Mapping[str, str]] = {
    "nameOverride": "Replaces the chart's name in names and labels of objects.",
    "fullnameOverride": "Replaces `<release>-aisix` at the head of every object's name.",
    "pullPolicy": "When nodes fetch an image.",
    "pullSecrets": "Names of Secrets that images are fetched with.",
    "image": "Replaces the image that the settings under `image` name.",
    "image.repository": "Replaces the repository of the image.",
    "image.tag": "Replaces the tag of the image.",
    "image.digest": "`sha256:...`; wins over the tag.",
    "commonAnnotations": "Annotations of every object.",
    "replicas": "How many pods.",
    "resources": "Requests and limits of the container.",
    "service.type": "Type of the Service.",
    "service.port": "Port of the Service.",
    "service.annotations": "Annotations of the Service.",
    "loadBalancerSourceRanges": "CIDRs that may use the load balancer; [] for all.",
    "externalTrafficPolicy": "`Local` keeps the callers' addresses; blank: the cluster's own choice.",
    "terminationGracePeriodSeconds": "Seconds a pod has to end.",
    "podDisruptionBudget.enabled": "Whether a drain of nodes has to leave enough pods.",
    "podDisruptionBudget.maxUnavailable": "How many pods a drain of nodes may take at once.",
    "nodeSelector": "Labels of the nodes that pods may run on.",
    "tolerations": "Taints that pods tolerate.",
    "affinity": "Rules of pods' affinity.",
    "priorityClassName": "PriorityClass of the pods.",
    "podLabels": "Further labels of the pods.",
    "podAnnotations": "Further annotations of the pods.",
    "extraEnv": "Further environment variables; use `valueFrom` for secrets.",
    "extraVolumes": "Further volumes of the pod.",
    "extraVolumeMounts": "Where they are mounted.",
    "serviceAccount.annotations": "Annotations of the ServiceAccount, such as those of workload identities.",
    "autoscaling.enabled": "Whether a HorizontalPodAutoscaler decides on the number of pods.",
    "minReplicas": "At least so many pods.",
    "maxReplicas": "At most so many pods.",
    "targetCPUUtilizationPercentage": "CPU in percent of the request that is aimed at.",
    "behavior": "How fast it grows and shrinks.",
    "persistence.enabled": "Whether data outlives the pod; without it, it is for trials only.",
    "persistence.size": "Size of each volume.",
    "storageClass": "Class of the volumes; blank: the cluster's default.",
    "certManager.enabled": "Whether cert-manager makes the certificate.",
    "issuerRef": "Its issuer: name and kind.",
    "dnsNames": "Names in the certificate besides those of the Service.",
    "className": "Class of the Ingress.",
    "enabled": "Whether it is made.",
    "labels": "Further labels of the object, which operators select by.",
    "annotations": "Annotations of the object.",
    "schedule": "When, as cron says it.",
    "interval": "How often it is read.",
    "loadBalancerClass": "Class of the load balancer; blank: the cluster's default.",
    "httpRoute.hostnames": "Hosts that the route is for; [] for all of the Gateway's.",
    "iKnowThisExposesTheAdmin": "Lets `service.type` be other than ClusterIP.",
    "bootstrapToken.key": "Key of the token in it.",
    "caConfigMap": "ConfigMap with the Cloud's authority under `ca.crt`.",
    "quotaBytes": "Bytes that the data may take before etcd refuses writes.",
    "backup.keep": "How many snapshots are kept.",
    "providerPorts": "Ports that providers are spoken to on.",
    "kubernetesApiPorts": "Ports of the Kubernetes API.",
    "networkPolicy.dns": "Where names are asked for.",
    "networkPolicy.redis": "Where Redis is, if it is used.",
    "runbookUrl": "What links to runbooks begin with.",
    "ttlSecondsAfterFinished": "Seconds for which a Job that ended is kept.",
    "existingSecret": "Secret of yours, instead of one that is made.",
}


@dataclass(slots=True)
class Value:
    """A key of values.yaml."""

    path: str
    default: Any
    description: str
    children: list["Value"] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]

    def leaves(self) -> Iterator["Value"]:
        """Itself, or every leaf below it."""
        if not self.children:
            yield self
        for child in self.children:
            yield from child.leaves()


def read_values(text: str = "", is_leaf: Callable[[Value], bool] | None = None) -> list[Value]:
    """What is in values.yaml, in its order. Maps that `is_leaf` names are not taken apart."""
    text = text or (CHART / "values.yaml").read_text()
    return _children(yaml.compose(text), yaml.safe_load(text), "", text.splitlines(), is_leaf or (lambda value: False))


def _children(node: Any, defaults: Any, path: str, lines: list[str], is_leaf: Callable[[Value], bool]) -> list[Value]:
    found = []
    for key, inner in node.value:
        here = f"{path}.{key.value}" if path else key.value
        value = Value(here, defaults[key.value], _comment(lines, key.start_mark) or _known(here))
        if isinstance(inner, yaml.MappingNode) and inner.value and not is_leaf(value):
            value.children = _children(inner, value.default, here, lines, is_leaf)
        found.append(value)
    return found


def _comment(lines: list[str], mark: Any) -> str:
    """The comment right above a key, with its indentation; a key in `{a: 1, b: 2}` has none."""
    if lines[mark.line][: mark.column].strip():
        return ""
    above: list[str] = []
    number = mark.line - 1
    while number >= 0 and lines[number].startswith(f"{' ' * mark.column}#"):
        above.insert(0, lines[number].strip().lstrip("#").strip().removeprefix("--").strip())
        number -= 1
    return " ".join(above)


def _known(path: str) -> str:
    """What a key that means the same everywhere is described with."""
    parts = path.split(".")
    longest_first = (".".join(parts[start:]) for start in range(len(parts)))
    return next((WELL_KNOWN[tail] for tail in longest_first if tail in WELL_KNOWN), "")


def render(is_leaf: Callable[[Value], bool]) -> str:
    """The page."""
    head = (CHART / "README.md.head").read_text().strip()
    values = "\n".join(_sections(read_values(is_leaf=is_leaf))).strip()
    note = "<!-- Made by `python -m tests.deploy.readme`; change values.yaml or README.md.head instead. -->"
    return f"{note}\n\n{head}\n\n{values}\n"


def _sections(values: list[Value]) -> Iterator[str]:
    """A table for what stands alone, and one for each group."""
    yield from _table("### Of the whole", "", [value for value in values if not value.children])
    for value in values:
        if value.children:
            yield from _table(f"### `{value.path}`", value.description, list(value.leaves()))


def _table(title: str, described: str, rows: list[Value]) -> Iterator[str]:
    yield from (title, "")
    if described:
        yield from (described, "")
    yield from ("| Value | Default | Meaning |", "| --- | --- | --- |")
    for value in rows:
        cells = (f"`{value.path}`", f"`{_written(value.default)}`", value.description)
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
    yield ""


def _written(default: Any) -> str:
    return json.dumps(default, ensure_ascii=False)


if __name__ == "__main__":
    from .values_schema import shape_of

    sys.stdout.write(render(lambda value: shape_of(value) is not None))
