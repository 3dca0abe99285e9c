"""What a file may say by name and a row says by id: each kind's rewriting of an entry, and the table of them.

Pure. A name is looked up among the names of the whole file, so the order of entries does not matter.
"""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from aisix_common.resources import hash_key
from aisix_common.resources.flaw import Path

from .interpolation import BadText, variable
from .layout import row_id

Document: TypeAlias = dict[str, Any]

_NAMED: Final = ("model", "api_key")
"""Dimensions and scopes of rate limits whose values are rows."""
_CALLED: Final[Mapping[str, str]] = {
    "provider_keys": "provider key",
    "models": "model",
    "api_keys": "API key",
}


class Dangling(BadText):
    """A name that no entry of the file has."""


@dataclass(frozen=True, slots=True)
class Names:
    """What is needed to rewrite an entry: who else is in the file, and the environment."""

    by_kind: Mapping[str, Set[str]]
    environ: Mapping[str, str]

    def id_of(self, kind: str, name: Any, at: Path) -> str:
        """The id of the entry called `name`. Raises BadText where there is none."""
        if not isinstance(name, str) or not name:
            raise BadText(at, f"must be the name of {_article(kind)}")
        if name not in self.by_kind.get(kind, frozenset()):
            raise Dangling(at, f"names {_article(kind)} that is not in this file")
        return row_id(kind, name)


def desugared(kind: str, document: Document, names: Names) -> Document:
    """`document` as a row holds it. Raises BadText with the first thing that cannot be meant."""
    rewrite = _REWRITES.get(kind)
    return document if rewrite is None else rewrite(document, names)


def dangling(kind: str) -> str:
    """What is said of a field that names a row which is not there."""
    return f"names {_article(kind)} that is not in this file"


def _article(kind: str) -> str:
    called = _CALLED.get(kind) or kind.removesuffix("s").replace("_", " ")
    return f"{'an' if called[0] in 'aoiAOI' else 'a'} {called}"


def _by_name(document: Document, sugar: str, field: str, kind: str, names: Names, at: Path = ()) -> Document:
    """`document` with the name in `sugar` as the id in `field`, at the same place."""
    if sugar not in document:
        return document
    if field in document:
        raise BadText((*at, sugar), f"excludes `{field}`: give one of the two")
    found = names.id_of(kind, document[sugar], (*at, sugar))
    return {field if name == sugar else name: found if name == sugar else value for name, value in document.items()}


def _model(document: Document, names: Names) -> Document:
    return _by_name(document, "provider_key", "provider_key_id", "provider_keys", names)


def _api_key(document: Document, names: Names) -> Document:
    if ("key_env" in document) == ("key_hash" in document):
        raise BadText(("key_env",), "exactly one of `key_env` and `key_hash` must be given")
    if "key_env" not in document:
        return document
    at = ("key_env",)
    name = document["key_env"]
    if not isinstance(name, str):
        raise BadText(at, "must name an environment variable: letters, digits and underscores")
    # The name is not shown: people write the key itself here.
    value = variable(name, names.environ, at, "the environment variable it names")
    if "${" in value:
        raise BadText(at, "the environment variable it names holds `${`: something was not filled in")
    if not value.strip():
        raise BadText(at, "the environment variable it names is not set, or empty")
    return {
        "key_hash" if name == "key_env" else name: hash_key(value) if name == "key_env" else item
        for name, item in document.items()
    }


def _rate_limit_policy(document: Document, names: Names) -> Document:
    changed = dict(document)
    if document.get("scope") in _NAMED and "scope_ref" in document:
        changed["scope_ref"] = names.id_of(f"{document['scope']}s", document["scope_ref"], ("scope_ref",))
    if "conditions" in document:
        changed["conditions"] = _conditions(document["conditions"], names, ("conditions",))
    return changed


def _conditions(node: Any, names: Names, at: Path) -> Any:
    """A condition, or a list of such, whatever it looks like: the strict check comes later."""
    if isinstance(node, list):
        return [_conditions(each, names, (*at, place)) for place, each in enumerate(node)]
    if not isinstance(node, dict):
        return node
    if "children" in node:
        return {**node, "children": _conditions(node["children"], names, (*at, "children"))}
    if node.get("dimension") not in _NAMED:
        return node
    value, kind = node.get("value"), f"{node['dimension']}s"
    if isinstance(value, str):
        return {**node, "value": names.id_of(kind, value, (*at, "value"))}
    if isinstance(value, list):
        return {**node, "value": [names.id_of(kind, each, (*at, "value", n)) for n, each in enumerate(value)]}
    return node


def _claim_mapping(document: Document, names: Names) -> Document:
    resolve = document.get("resolve")
    if not isinstance(resolve, dict):
        return document
    return {**document, "resolve": _by_name(resolve, "api_key", "api_key_id", "api_keys", names, ("resolve",))}


def _passthrough_route(document: Document, names: Names) -> Document:
    document = _by_name(document, "provider_key", "provider_key_id", "provider_keys", names)
    return _by_name(document, "anonymous_key", "anonymous_key_id", "api_keys", names)


_REWRITES: Final[Mapping[str, Callable[[Document, Names], Document]]] = {
    "models": _model,
    "api_keys": _api_key,
    "rate_limit_policies": _rate_limit_policy,
    "claim_mappings": _claim_mapping,
    "passthrough_routes": _passthrough_route,
}
