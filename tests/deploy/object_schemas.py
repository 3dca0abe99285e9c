"""Whether Kubernetes would take an object: the strict schemas of kubernetes-validate for its own kinds, and schemas of
ours (operator_schemas.yaml) for those of the operators that the chart speaks to.

    problems(item, "1.27")      # [] or what is wrong, with paths; a kind that no schema is known for is wrong too

The schemas are read out of the package as it was fetched (tools.py), the two versions that are used of thirteen.
"""

import json
import re
import zipfile
from functools import cache
from pathlib import Path
from typing import Any, Final

import jsonschema_rs
import yaml

from . import tools
from .rendering import Object, name

_FOLDER: Final = "kubernetes_validate/kubernetes-json-schema"
_OPERATORS: Final = Path(__file__).with_name("operator_schemas.yaml")


def problems(item: Object, kubernetes: str) -> list[str]:
    """What Kubernetes of that version would not take in an object."""
    validator = _validator(item["kind"], item["apiVersion"], kubernetes)
    if validator is None:
        return [f"{name(item)}: Kubernetes {kubernetes} has no {item['kind']} of {item['apiVersion']}"]
    return [
        f"{name(item)}: {'.'.join(map(str, error.instance_path))}: {error.message}"
        for error in validator.iter_errors(item)
    ]


@cache
def _validator(kind: str, api_version: str, kubernetes: str) -> Any:
    """The compiled schema of a kind, or None."""
    ours = _operators().get(f"{api_version} {kind}")
    if ours is not None:
        return jsonschema_rs.Draft202012Validator(ours)
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    schema = _read(kubernetes, f"{kind.lower()}-{group}.json")
    if schema is None or api_version not in schema["properties"]["apiVersion"]["enum"]:
        return None
    return jsonschema_rs.Draft202012Validator(schema, registry=_definitions(kubernetes))


@cache
def _definitions(kubernetes: str) -> jsonschema_rs.Registry:
    definitions = _read(kubernetes, "_definitions.json")
    return jsonschema_rs.Registry([("https://kubernetes.io/api/_definitions.json", definitions)])


def _read(kubernetes: str, file: str) -> Any:
    with zipfile.ZipFile(tools.path("kubernetes-schemas.whl")) as wheel:
        try:
            return json.loads(wheel.read(f"{_FOLDER}/v{kubernetes}.0-local-strict/{file}"))
        except KeyError:
            return None


@cache
def _operators() -> dict[str, Any]:
    document = yaml.safe_load(_OPERATORS.read_text())
    definitions = document.pop("definitions")
    return {kind: {**schema, "$defs": definitions} for kind, schema in document.items()}
