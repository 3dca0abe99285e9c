"""Every value set renders with both Helms for the oldest and the newest Kubernetes: twice the same, to what the golden
files hold, and to objects that Kubernetes would take. `make golden` writes the files anew; review the diff."""

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from .matrix import COMBINATIONS, SETS, VERSIONS
from .object_schemas import problems
from .rendering import CHART, HELMS, NEWEST, Object, Rendered, name, render, run_helm, run_template, template

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

GOLDEN: Final = Path(__file__).with_name("golden")


@pytest.mark.parametrize(("values", "kubernetes", "helm"), COMBINATIONS)
def test_kubernetes_would_take_every_object(values: str, kubernetes: str, helm: str) -> None:
    rendered = render(SETS[values], helm=helm, kubernetes=kubernetes)
    assert len(rendered.objects) > 10
    assert [text for item in rendered.objects for text in problems(item, kubernetes)] == []


@pytest.mark.parametrize(("values", "kubernetes", "helm"), COMBINATIONS)
def test_rendering_twice_gives_the_same_bytes(values: str, kubernetes: str, helm: str) -> None:
    document = json.dumps(SETS[values], sort_keys=True)
    assert run_template(document, helm, kubernetes) == template(document, helm, kubernetes)


@pytest.mark.parametrize("values", SETS)
@pytest.mark.parametrize("kubernetes", VERSIONS)
def test_both_helms_render_the_same_objects(values: str, kubernetes: str) -> None:
    four, three = (render(SETS[values], helm=helm, kubernetes=kubernetes) for helm in HELMS)
    assert normal(four) == normal(three)


@pytest.mark.parametrize("values", SETS)
def test_the_objects_are_those_of_the_golden_file(values: str, request: pytest.FixtureRequest) -> None:
    found = documents(render(SETS[values]))
    usual = documents(render({}))
    same = sorted(called for called in found if values != "default" and found[called] == usual.get(called))
    kept = "".join(f"# as in default.yaml: {called}\n" for called in same)
    other = "---\n".join(text for called, text in sorted(found.items()) if called not in same)
    compare(GOLDEN / f"{values}.yaml", kept + other, request)


def test_what_an_older_kubernetes_lacks_is_left_out(request: pytest.FixtureRequest) -> None:
    """The lines of the default set that are other for the oldest version."""
    old, new = (normal(render({}, kubernetes=kubernetes)).splitlines() for kubernetes in VERSIONS)
    different = sorted({f"- {line.strip()}" for line in set(old) - set(new)}) + sorted(
        {f"+ {line.strip()}" for line in set(new) - set(old)}
    )
    compare(GOLDEN / "oldest-kubernetes.diff", "\n".join(different) + "\n", request)


def test_every_golden_file_belongs_to_a_value_set() -> None:
    assert {file.stem for file in GOLDEN.glob("*.yaml")} == set(SETS)


@pytest.mark.parametrize("helm", HELMS)
@pytest.mark.parametrize("values", SETS)
def test_lint_has_nothing_to_say(values: str, helm: str) -> None:
    arguments = ["lint", "--strict", "--quiet", str(CHART), "--kube-version", NEWEST, "--values", "-"]
    said = run_helm(helm, arguments, json.dumps(SETS[values]))
    assert not re.search(r"\[(WARNING|ERROR)\]", said), said


@pytest.mark.parametrize("values", SETS)
def test_a_name_is_given_once(values: str) -> None:
    names = [name(item) for item in render(SETS[values]).objects]
    assert sorted(names) == sorted(set(names))


def normal(rendered: Rendered) -> str:
    """The objects by kind and name, without what only repeats or tells of content elsewhere."""
    return "---\n".join(text for _, text in sorted(documents(rendered).items()))


def documents(rendered: Rendered) -> dict[str, str]:
    normal = map(_without_noise, rendered.objects)
    return {name(item): yaml.dump(item, Dumper=DUMPER, sort_keys=True, width=120) for item in normal}


DUMPER: Final[Any] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def _without_noise(item: Object) -> Object:
    text = json.dumps(item)
    text = re.sub(r'("checksum/[a-z-]+": )"[0-9a-f]{64}"', r'\1"..."', text)
    text = re.sub(r"(-(?:auth|restore-\d))-[0-9a-f]{8}\b", r"\1-...", text)
    normal: Object = json.loads(text)
    for key, value in normal.get("data", {}).items() if normal["kind"] == "ConfigMap" else ():
        if value.strip() in FILES:
            normal["data"][key] = f"(files/{FILES[value.strip()]})"
        elif key.endswith(".yaml"):
            normal["data"][key] = yaml.safe_load(value)  # so that a change is seen line by line
    return normal


FILES: Final = {
    file.read_text().strip(): str(file.relative_to(CHART / "files"))
    for file in (CHART / "files").rglob("*")
    if file.suffix in (".py", ".json", ".yaml")
}
"""What the chart carries as it is."""


def compare(file: Path, found: str, request: pytest.FixtureRequest) -> None:
    """With what the file holds; or write it."""
    if request.config.getoption("--update-golden"):
        file.write_text(found)
    wanted = file.read_text() if file.exists() else ""
    assert found.splitlines() == wanted.splitlines(), f"{file.name}: `make golden` writes it anew; review the diff"
