"""Every setting of the services can be reached through the chart: under `config`, or, where the chart has to set it
itself, by the value that the refusal names."""

import re
from collections.abc import Iterator
from typing import Any, Final, Literal, get_args, get_origin

import msgspec
import pytest
import yaml

from aisix_common.settings.schema import Settings
from aisix_common.settings.values import Parse
from aisix_common.settings.walker import leaves, shape

from .matrix import SETS
from .readme import read_values
from .rendering import CHART, RenderFailed, render

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LEAVES: Final = dict(leaves(Settings))

GIVEN: Final[dict[str, Any]] = {
    "etcd.tls.domain_name": "etcd.example.com",
    "admin.playground_proxy_url": "http://proxy.example.com",
    "managed.cp_etcd_endpoint": "etcd.example.com:2379",
    "cache.redis.url": "redis://redis.example.com",
    "ratelimit.redis.url": "redis://redis.example.com",
}
"""Values for those that are looked at more closely than by their type."""


def owned() -> dict[str, str]:
    """The settings that the chart sets itself, with the fix that its refusal gives."""
    text = (CHART / "templates/_guards.tpl").read_text()
    found = re.search(r'define "aisix.config.owned" -\}\}\n(.*?)\{\{- end', text, re.DOTALL)
    assert found, "the list of settings that the chart sets"
    return dict(line.split(": ", 1) for line in found[1].strip().splitlines())


OWNED: Final = owned()


def is_owned(path: str) -> bool:
    """By itself, or as part of a section."""
    return any(path == own or path.startswith(own + ".") for own in OWNED)


def sample(path: str, field: msgspec.structs.FieldInfo) -> Any:
    """Something of the type of a setting that differs from what is there without it."""
    if path in GIVEN:
        return GIVEN[path]
    form = shape(field.type)
    if get_origin(form.type) is tuple:
        return [3.5] if "buckets" in path else [{"marker": path}] if form.section is None else [path]
    if get_origin(form.type) is Literal:
        return get_args(form.type)[-1]
    if form.type is bool:
        return field.default is not True
    if form.type in (int, float) and form.mark(Parse) is None:
        return 7
    return f"/marker/{path}"


def nested(paths: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in paths.items():
        *parents, last = path.split(".")
        place = tree
        for part in parents:
            place = place.setdefault(part, {})
        place[last] = value
    return tree


def flat(tree: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        here = f"{path}.{key}" if path else key
        if isinstance(value, dict):
            yield from flat(value, here)
        else:
            yield here, value


FREE: Final = {path: sample(path, field) for path, field in LEAVES.items() if not is_owned(path)}


@pytest.mark.parametrize("values", ["default", "managed-token", "external-etcd"])
def test_every_setting_that_the_chart_does_not_own_arrives(values: str) -> None:
    """All at once: what one of them would do to the service is the service's business."""
    managed = SETS[values].get("mode") == "managed"
    free = {path: value for path, value in FREE.items() if not (managed and path.startswith("admin."))}
    rendered = render({**SETS[values], "config": nested(free)})
    components = ["proxy", "cloud-agent" if managed else "admin"]
    assert len(free) > 80
    for component in components:
        arrived = dict(flat(config_of(rendered, component)))
        lost = [path for path, value in free.items() if arrived.get(path) != value]
        if component != "admin":
            lost = [path for path in lost if not path.startswith("admin.")]
        assert lost == [], component


def config_of(rendered: Any, component: str) -> dict[str, Any]:
    """config.yaml as the container of a component sees it."""
    pod = next(pod for pod in rendered.pods() if pod.component == component and pod.owner.startswith("Deployment/"))
    mounts = {mount["mountPath"]: mount["name"] for mount in pod.spec["containers"][0]["volumeMounts"]}
    volume = next(volume for volume in pod.spec["volumes"] if volume["name"] == mounts["/etc/aisix"])
    data = rendered.named("ConfigMap", volume["configMap"]["name"])["data"]
    keys = {item["path"]: item["key"] for item in volume["configMap"].get("items", [])}
    config: dict[str, Any] = yaml.safe_load(data[keys.get("config.yaml", "config.yaml")])
    return config


def test_what_the_chart_owns_is_a_setting() -> None:
    sections = {path.rpartition(".")[0] for path in LEAVES}
    assert [path for path in OWNED if path not in LEAVES and path not in sections] == []


def test_what_is_to_be_set_instead_exists() -> None:
    known = {leaf.path for value in read_values() for leaf in value.leaves()}
    known |= {path.rsplit(".", depth)[0] for path in known for depth in range(1, path.count(".") + 1)}
    for path, fix in OWNED.items():
        named = re.findall(r"(?<![\w./])(?:proxy|admin|cloudAgent|etcd|keyring)(?:\.\w+)+|(?<![\w.])mode(?![\w.])", fix)
        named = [word for word in named if not word.startswith(("proxy.extraEnv.", "config."))]
        assert [word for word in named if word not in known | {"mode"}] == [], path


@pytest.mark.parametrize("path", OWNED)
def test_setting_what_the_chart_owns_is_refused_with_the_fix(path: str) -> None:
    field = LEAVES.get(path)
    value = sample(path, field) if field is not None else {"marker": "x"}
    base = SETS["managed-token"] if path.startswith("managed.") else {}
    with pytest.raises(RenderFailed, match=re.escape(f"config.{path}")) as refusal:
        render({**base, "config": nested({path: value})})
    assert OWNED[path].split(";")[0][:40] in str(refusal.value)
