"""Ids back to names: the reverse of `sugar`, kind by kind, for rows on their way into a file. Pure.

What names a row that is not there is left as it is and told: such a file does not load before somebody decided.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from .layout import row_id
from .sugar import Document

_NAMED: Final = ("model", "api_key")
_OF_KEY: Final = "api_key:"


@dataclass(slots=True)
class Identities:
    """Which entry a row becomes, by kind and id; and what was found on the way."""

    by_kind: Mapping[str, Mapping[str, str]]
    dangling: list[str] = field(default_factory=list)
    """Fields that name a row which is not there."""

    def name_of(self, kind: str, id: Any, at: str) -> str | None:
        """The name of a row's entry."""
        found = self.by_kind.get(kind, {}).get(id) if isinstance(id, str) else None
        if found is None:
            self.dangling.append(at)
        return found

    def id_of(self, kind: str, id: Any, at: str) -> str | None:
        """The id that a row will have once the file is loaded."""
        name = self.name_of(kind, id, at)
        return None if name is None else row_id(kind, name)

    def knows(self, kind: str, name: str) -> bool:
        """Whether there is a row of this name."""
        return name in self.by_kind.get(kind, {}).values()


Rewrite: TypeAlias = Callable[[Document, Identities], Document]


def unsugared(kind: str, document: Document, identities: Identities) -> Document:
    """`document` as a file holds it."""
    rewrite = _REWRITES.get(kind)
    return document if rewrite is None else rewrite(document, identities)


def _to_name(document: Document, field: str, sugar: str, kind: str, identities: Identities, at: str = "") -> Document:
    if field not in document:
        return document
    name = identities.name_of(kind, document[field], at + field)
    if name is None:
        return document
    return {sugar if key == field else key: name if key == field else value for key, value in document.items()}


def _model(document: Document, identities: Identities) -> Document:
    return _to_name(document, "provider_key_id", "provider_key", "provider_keys", identities)


def _passthrough_route(document: Document, identities: Identities) -> Document:
    document = _to_name(document, "provider_key_id", "provider_key", "provider_keys", identities)
    return _to_name(document, "anonymous_key_id", "anonymous_key", "api_keys", identities)


def _claim_mapping(document: Document, identities: Identities) -> Document:
    resolve = _to_name(document["resolve"], "api_key_id", "api_key", "api_keys", identities, "resolve.")
    return {**document, "resolve": resolve}


def _rate_limit_policy(document: Document, identities: Identities) -> Document:
    changed = dict(document)
    if document.get("scope") in _NAMED:
        name = identities.name_of(f"{document['scope']}s", document.get("scope_ref"), "scope_ref")
        changed["scope_ref"] = document.get("scope_ref") if name is None else name
    if "conditions" in document:
        changed["conditions"] = _conditions(document["conditions"], identities, "conditions")
    return changed


def _conditions(node: Any, identities: Identities, at: str) -> Any:
    if isinstance(node, list):
        return [_conditions(each, identities, f"{at}[{place}]") for place, each in enumerate(node)]
    if "children" in node:
        return {**node, "children": _conditions(node["children"], identities, f"{at}.children")}
    if node.get("dimension") not in _NAMED:
        return node
    kind, value = f"{node['dimension']}s", node.get("value")
    if isinstance(value, list):
        names = [identities.name_of(kind, each, f"{at}.value[{n}]") or each for n, each in enumerate(value)]
        return {**node, "value": names}
    return {**node, "value": identities.name_of(kind, value, f"{at}.value") or value}


def _cache_policy(document: Document, identities: Identities) -> Document:
    applies: str = document.get("applies_to", "")
    if not applies.startswith(_OF_KEY):
        return document
    found = identities.id_of("api_keys", applies.removeprefix(_OF_KEY), "applies_to")
    return document if found is None else {**document, "applies_to": _OF_KEY + found}


def _mcp_auth_settings(document: Document, identities: Identities) -> Document:
    anonymous = document.get("anonymous")
    if not isinstance(anonymous, dict):
        return document
    found = identities.id_of("api_keys", anonymous.get("api_key_id"), "anonymous.api_key_id")
    return document if found is None else {**document, "anonymous": {**anonymous, "api_key_id": found}}


_REWRITES: Final[Mapping[str, Rewrite]] = {
    "models": _model,
    "rate_limit_policies": _rate_limit_policy,
    "claim_mappings": _claim_mapping,
    "passthrough_routes": _passthrough_route,
    "cache_policies": _cache_policy,
    "mcp_auth_settings": _mcp_auth_settings,
}
