"""What the chart renders to, as objects, and the few questions every test of it asks.

    chart = render({"mode": "managed", ...})              # Helm 4, newest Kubernetes; dicts are merged over values.yaml
    chart.one("Deployment", "proxy")                      # by kind and component
    render(values, helm="helm3", kubernetes="1.27")

`RenderFailed` carries what Helm said: of the schema, or of one of the chart's guards.
"""

import json
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from . import tools

CHART: Final = tools.ROOT / "deploy/helm/aisix"
RELEASE: Final = "gw"
NAMESPACE: Final = "ai"
OLDEST: Final = "1.27"
NEWEST: Final = "1.37"
HELMS: Final = ("helm4", "helm3")

API_VERSIONS: Final = ("monitoring.coreos.com/v1", "cert-manager.io/v1", "gateway.networking.k8s.io/v1")
"""Of the operators that the chart may make objects for: said to be there in every rendering."""

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Object = dict[str, Any]


class RenderFailed(Exception):
    """Helm refused; the text is what it said."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod as some object of the chart makes it."""

    owner: str
    """Kind/name of the object that makes it."""
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: Mapping[str, Any]

    @property
    def component(self) -> str:
        return self.labels.get("app.kubernetes.io/component", "")

    @property
    def containers(self) -> list[Mapping[str, Any]]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]


@dataclass(frozen=True, slots=True)
class Rendered:
    """One rendering."""

    text: str
    objects: tuple[Object, ...]

    def of(self, kind: str) -> list[Object]:
        return [item for item in self.objects if item["kind"] == kind]

    def one(self, kind: str, component: str) -> Object:
        """The object of a kind that belongs to a component; the only one there is."""
        found = [item for item in self.of(kind) if component_of(item) == component]
        assert len(found) == 1, f"{len(found)} {kind} of {component}: {[name(item) for item in found]}"
        return found[0]

    def named(self, kind: str, called: str) -> Object | None:
        return next((item for item in self.of(kind) if item["metadata"]["name"] == called), None)

    def pods(self) -> list[Pod]:
        return [pod for item in self.objects for pod in pods_of(item)]


def render(
    values: Mapping[str, Any] | None = None,
    *,
    helm: str = "helm4",
    kubernetes: str = NEWEST,
    arguments: Iterable[str] = (),
) -> Rendered:
    """The objects of the chart with `values` over its own. Equal calls have one answer: leave it as it is."""
    return _rendered(json.dumps(values or {}, sort_keys=True), helm, kubernetes, tuple(arguments))


@cache
def _rendered(values: str, helm: str, kubernetes: str, arguments: tuple[str, ...]) -> Rendered:
    text = template(values, helm, kubernetes, arguments)
    return Rendered(text, parse(text))


@cache
def template(values: str, helm: str, kubernetes: str, arguments: tuple[str, ...] = ()) -> str:
    """The rendered text; `values` is a JSON document."""
    return run_template(values, helm, kubernetes, arguments)


def run_template(values: str, helm: str, kubernetes: str, arguments: tuple[str, ...] = ()) -> str:
    """The same, rendered anew."""
    command = ["template", RELEASE, str(CHART), "--namespace", NAMESPACE, "--kube-version", kubernetes]
    for version in API_VERSIONS:
        command += ["--api-versions", version]
    return run_helm(helm, [*command, "--values", "-", *arguments], values)


def notes(values: Mapping[str, Any]) -> str:
    """What the operator reads after an installation. By Helm 4: Helm 3 does not tell without a cluster."""
    arguments = ["install", RELEASE, str(CHART), "--namespace", NAMESPACE, "--dry-run=client", "--values", "-"]
    text = run_helm("helm4", arguments, json.dumps(values))
    return text.partition("\nNOTES:\n")[2]


def run_helm(helm: str, arguments: list[str], stdin: str = "") -> str:
    """Helm with settings of nobody's: no cluster, no repositories, no plugins."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {"HOME": folder, "PATH": "/usr/bin:/bin", "KUBECONFIG": str(Path(folder, "none"))}
        done = subprocess.run(
            [str(tools.path(helm)), *arguments],
            input=stdin,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RenderFailed(f"{done.stdout}\n{done.stderr}".strip())
    return done.stdout


def parse(text: str) -> tuple[Object, ...]:
    """The objects of a rendered text, those inside Lists too."""
    return tuple(item for document in yaml.load_all(text, Loader=_LOADER) if document for item in _flat(document))


def _flat(document: Object) -> Iterator[Object]:
    if document["kind"] == "List":
        yield from document["items"]
    else:
        yield document


def name(item: Object) -> str:
    """An object as one speaks of it."""
    return f"{item['kind']}/{item['metadata']['name']}"


def component_of(item: Object) -> str:
    labels: Mapping[str, str] = item["metadata"].get("labels") or {}
    return labels.get("app.kubernetes.io/component", "")


def pods_of(item: Object) -> Iterator[Pod]:
    """The pod that an object is or makes."""
    kind = item["kind"]
    if kind == "Pod":
        yield _pod(item, item)
    elif kind in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
        yield _pod(item, item["spec"]["template"])
    elif kind == "CronJob":
        yield _pod(item, item["spec"]["jobTemplate"]["spec"]["template"])


def _pod(item: Object, template: Object) -> Pod:
    metadata = template.get("metadata") or {}
    return Pod(name(item), metadata.get("labels") or {}, metadata.get("annotations") or {}, template["spec"])


def texts(value: Any) -> Iterator[str]:
    """Every text in an object, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
