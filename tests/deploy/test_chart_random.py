"""Values that nobody thought of: what the schema allows is rendered to objects that Kubernetes would take, or is
refused by a guard that says why; a template never breaks on it.

A handful of values is drawn from the whole schema, each from its own part of it, and laid over a value set that works.
"""

import copy
import json
import re
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from .matrix import SETS
from .object_schemas import problems
from .pod_security import violations
from .random_values import valid
from .rendering import NEWEST, RenderFailed, parse, pods_of, run_template
from .test_chart_values import LEAVES, SCHEMA, at

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

BASES: Final = ("default", "managed-token", "external-etcd", "everything-on")
CHECKED_ELSEWHERE: Final = re.compile(
    r"^(config|.*\.(extraVolumes|extraVolumeMounts|affinity|ingress\.tls)|proxy\.autoscaling\.metrics)$"
)
"""Objects of Kubernetes' own that the chart passes on as they are: Kubernetes says of these what is wrong; and what the
services say it of."""

DRAWN: Final = {
    leaf.path: valid(at(leaf.path), SCHEMA["definitions"]) for leaf in LEAVES if not CHECKED_ELSEWHERE.match(leaf.path)
}


@st.composite
def values(draw: st.DrawFn) -> dict[str, Any]:
    """A value set that works, with up to eight values changed."""
    tree = copy.deepcopy(dict(SETS[draw(st.sampled_from(BASES))]))
    for path in draw(st.lists(st.sampled_from(sorted(DRAWN)), min_size=1, max_size=8, unique=True)):
        *parents, last = path.split(".")
        place = tree
        for part in parents:
            place = place.setdefault(part, {})
        place[last] = draw(DRAWN[path])
    return tree


@settings(
    phases=[Phase.generate],  # to shrink a case costs more than to read it
    max_examples=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(values())
def test_whatever_is_allowed_is_rendered_or_refused_with_a_reason(tree: dict[str, Any]) -> None:
    assert complaints(tree) == []


def complaints(tree: dict[str, Any]) -> list[str]:
    """What is wrong with what the chart makes of some values."""
    try:
        text = run_template(json.dumps(tree), "helm4", NEWEST)
    except RenderFailed as refusal:
        return [] if refused_well(str(refusal)) else [str(refusal)]
    objects = parse(text)
    pods = [pod for item in objects for pod in pods_of(item)]
    return [problem for item in objects for problem in problems(item, NEWEST)] + [
        f"{pod.owner}: {text}" for pod in pods for text in violations(pod.spec, pod.annotations)
    ]


def refused_well(said: str) -> bool:
    """By a guard, whose message begins with the value; or by a condition of the schema."""
    by_guard = re.search(r"execution error at \([^)]*\): (config|[a-z]\w*)([.\[][\w.\[\]]+)?( and [\w.]+)?: ", said)
    return bool(by_guard) or "values don't meet the specifications of the schema" in said


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("odd", ["123", "true", "1e3", "0x1f"])
def test_a_text_that_yaml_reads_as_something_else_stays_a_text(odd: str, base: str) -> None:
    """A Secret may be called 123."""
    tree: dict[str, Any] = copy.deepcopy(dict(SETS[base]))
    named = re.compile(r"(existingSecret|Secret|caConfigMap|Claim|storageClass|className|priorityClassName|tag|Class)$")
    for leaf in LEAVES:
        if isinstance(leaf.default, str) and (
            (named.search(leaf.path) and now(tree, leaf.path)) or leaf.path in ALWAYS
        ):
            put(tree, leaf.path, odd)
    assert complaints(tree) == []


ALWAYS: Final = {"image.tag", "proxy.priorityClassName", "etcd.bundled.persistence.storageClass"}


def now(tree: Any, path: str) -> Any:
    """What a tree has at a path, or None."""
    for part in path.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def put(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for part in parents:
        tree = tree.setdefault(part, {})
    tree[last] = value
