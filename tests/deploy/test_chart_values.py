"""values.yaml, values.schema.json and the README say the same, and the schema refuses what does not exist."""

import json
import re
from typing import Any, Final

import jsonschema_rs
import pytest

from . import readme, values_schema
from .matrix import SETS
from .readme import Value, read_values
from .rendering import CHART, HELMS, RenderFailed, render

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SCHEMA: Final = values_schema.schema()
LEAVES: Final = [
    leaf
    for value in read_values(is_leaf=lambda value: values_schema.shape_of(value) is not None)
    for leaf in value.leaves()
]


def test_the_schema_is_current() -> None:
    assert (CHART / "values.schema.json").read_text() == values_schema.render(), "run `make docs`"


def test_the_readme_is_current() -> None:
    page = readme.render(lambda value: values_schema.shape_of(value) is not None)
    assert (CHART / "README.md").read_text() == page, "run `make docs`"


def test_the_schema_is_one() -> None:
    assert jsonschema_rs.meta.is_valid(SCHEMA)
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-07/schema#"


def test_every_value_says_what_it_does() -> None:
    assert [leaf.path for leaf in LEAVES if not leaf.description] == []


def test_every_shape_is_of_a_value() -> None:
    used = {id(values_schema.shape_of(leaf)) for leaf in LEAVES}
    general = {"*.existingClaim"}
    assert [p for p, shape in values_schema.SHAPES if id(shape) not in used and p not in general] == []


def test_every_default_is_allowed() -> None:
    for leaf in LEAVES:
        wanted = {**at(leaf.path), "definitions": SCHEMA["definitions"]}
        assert jsonschema_rs.Draft7Validator(wanted).is_valid(leaf.default), leaf.path


def test_every_example_is_allowed() -> None:
    examples = [(leaf, example) for leaf in LEAVES for example in at(leaf.path).get("examples", [])]
    assert len(examples) >= 10
    for leaf, example in examples:
        wanted = {**at(leaf.path), "definitions": SCHEMA["definitions"]}
        assert jsonschema_rs.Draft7Validator(wanted).is_valid(example), f"{leaf.path}: {example}"


def at(path: str) -> dict[str, Any]:
    """The schema of a value."""
    schema: dict[str, Any] = SCHEMA
    for part in path.split("."):
        schema = schema["properties"][part]
    return schema


OPEN: Final = re.compile(r"^(config|global|proxy\.autoscaling\.metrics)$")


def test_every_map_is_closed() -> None:
    """But for what the services, parent charts or Kubernetes look at themselves, and maps of texts."""
    assert list(open_maps(SCHEMA, "")) == []


def open_maps(schema: Any, path: str) -> Any:
    if not isinstance(schema, dict):
        return
    looked_at_here = not OPEN.match(path) and not path.startswith("definitions.volume.")
    if schema.get("type") == "object" and looked_at_here and "additionalProperties" not in schema:
        yield path
    for name, inner in schema.get("properties", {}).items():
        yield from open_maps(inner, f"{path}.{name}".lstrip("."))
    for name, inner in schema.get("definitions", {}).items():
        yield from open_maps(inner, f"definitions.{name}")
    if isinstance(schema.get("items"), dict) and not OPEN.match(path):
        yield from open_maps(schema["items"], path)


@pytest.mark.parametrize("helm", HELMS)
@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"proxi": {}}, "proxi"),
        ({"proxy": {"replica": 3}}, "replica"),
        ({"proxy": {"replicas": "three"}}, "replicas"),
        ({"proxy": {"replicas": -1}}, "replicas"),
        ({"mode": "selfhosted"}, "mode"),
        ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
        ({"image": {"tag": "a b"}}, "tag"),
        ({"proxy": {"image": {"digest": "sha256:12"}}}, "digest"),
        ({"proxy": {"service": {"port": 70000}}}, "port"),
        ({"proxy": {"resources": {"limit": {}}}}, "limit"),
        ({"proxy": {"tolerations": [{"keys": "x"}]}}, "keys"),
        ({"proxy": {"extraEnv": [{"name": "A", "value": "x", "valueFrom": {}}]}}, "extraEnv"),
        ({"proxy": {"extraVolumes": [{"name": "h", "hostPath": {"path": "/"}}]}}, "hostPath"),
        ({"proxy": {"podLabels": {"a b": "c"}}}, "a b"),
        ({"networkPolicy": {"callers": [{}]}}, "callers"),
        ({"networkPolicy": {"callers": [{"ipBlock": {"cidr": "10.0.0.0"}}]}}, "cidr"),
        ({"etcd": {"bundled": {"replicas": 2}}}, "replicas"),
        ({"etcd": {"bundled": {"backup": {"schedule": "at night"}}}}, "schedule"),
        ({"keyring": {"keys": ["a/b"]}}, "keys"),
        ({"mode": "managed"}, "cloudUrl"),
        ({"etcd": {"mode": "external"}}, "endpoints"),
        ({"proxy": {"tls": {"enabled": True, "certManager": {"enabled": True}}}}, "issuerRef"),
        ({"proxy": {"ingress": {"enabled": True}}}, "hosts"),
        ({"proxy": {"httpRoute": {"enabled": True}}}, "parentRefs"),
    ],
    ids=str,
)
def test_what_does_not_exist_or_cannot_be_is_refused_by_name(values: dict[str, Any], said: str, helm: str) -> None:
    with pytest.raises(RenderFailed) as refusal:
        render(values, helm=helm)
    assert said in str(refusal.value)


def test_a_parent_chart_may_hand_down_its_globals() -> None:
    assert render({"global": {"storageClass": "fast"}}).objects


@pytest.mark.parametrize("values", SETS)
def test_value_sets_of_these_tests_are_allowed(values: str) -> None:
    """As they are, without the defaults: what a file of values is checked against by an editor."""
    without_conditions = {key: part for key, part in SCHEMA.items() if key != "allOf"}
    assert jsonschema_rs.Draft7Validator(without_conditions).is_valid(json.loads(json.dumps(SETS[values])))


SOME: Final = """
# -- Of the first.
first: 1
second:
  # Of the
  # third.
  third: a
  fourth: {enabled: true}
"""


def test_comments_describe_what_is_below_them() -> None:
    values = read_values(SOME)
    assert [(leaf.path, leaf.default, leaf.description) for value in values for leaf in value.leaves()] == [
        ("first", 1, "Of the first."),
        ("second.third", "a", "Of the third."),
        ("second.fourth.enabled", True, "Whether it is made."),
    ]


def test_a_default_that_says_too_little_needs_a_shape() -> None:
    with pytest.raises(TypeError, match="SHAPES"):
        values_schema.by_default([])
    assert values_schema.shape_of(Value("nobody.knows", [], "")) is None
