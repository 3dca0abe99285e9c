"""What `***` in a written document means: keep the stored secret, as long as it goes where it went before (design 7).

Which values are secret follows from the types of the kind's Struct. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec import inspect

from aisix_common.errors import Problem
from aisix_common.resources import Flaw, Kind
from aisix_common.resources.shapes import alternatives, chosen
from aisix_common.resources.walker import DEEPEST
from aisix_common.secret import MASK, Secret

from .errors import Invalid

_NOTHING: Final = object()
"""What is stored where nothing is: a sensitive value may be null."""


@dataclass(slots=True)
class Restored:
    """A document with the stored secrets in place of masks, and where they were."""

    document: dict[str, Any]
    kept: list[tuple[str | int, ...]] = field(default_factory=list)
    missing: list[Flaw] = field(default_factory=list)


def restore(kind: Kind[Any], document: Mapping[str, Any], stored: Mapping[str, Any] | None) -> Restored:
    """Put the secrets of `stored` (a document in clear, None on a create) where `document` has masks.

    A mask with nothing behind it is in `missing`.
    """
    result = Restored({})
    result.document = _walk(_info(kind.struct), document, stored or {}, (), result)
    return result


def moved(kind: Kind[Any], old: Any, new: Any) -> list[str]:
    """The fields in which `new` sends its secrets elsewhere than `old` did (both typed).

    Whoever may write resources but has never seen the secret must not get it by pointing the row at a server of theirs.
    Members of a union do not have all fields: what is missing is None. Another member is another addressee.
    """
    tag = [str(type(new).__struct_config__.tag_field)] if type(old) is not type(new) else []
    return tag + [
        name for name in kind.destinations if name not in tag and getattr(old, name, None) != getattr(new, name, None)
    ]


def require_same_destination(kind: Kind[Any], kept: list[tuple[str | int, ...]], old: Any, new: Any) -> None:
    """Raise Invalid when secrets were kept by mask although `new` (typed) sends them elsewhere than `old` did."""
    changed = moved(kind, old, new) if kept else []
    if changed:
        reason = f"must be given again, not as {MASK}, because {', '.join(f'`{name}`' for name in changed)} changes"
        raise Invalid.schema([Problem(Flaw(at, "").pointer, f"{reason} where it is sent") for at in kept])


def secret_paths(struct: Any) -> frozenset[str]:
    """Dotted paths of all secret fields of a Struct, or of all members of a union, for tests and documents."""
    found: set[str] = set()
    _find(_info(struct), "", found, frozenset())
    return frozenset(found)


def _info(struct: Any) -> inspect.Type:
    return inspect.type_info(struct)


def _walk(kind: inspect.Type, value: Any, stored: Any, at: tuple[str | int, ...], result: Restored) -> Any:
    if isinstance(kind, inspect.Metadata):
        return _walk(kind.type, value, stored, at, result)
    if len(at) > DEEPEST:
        return value  # for the schema to refuse
    if isinstance(kind, inspect.UnionType):
        one = chosen(alternatives(kind), value)
        return value if one is None else _walk(one, value, stored, at, result)
    if isinstance(kind, inspect.CustomType):
        return _kept(value, stored, at, result) if issubclass(kind.cls, Secret) else value
    if isinstance(kind, inspect.StructType | inspect.DictType) and isinstance(value, dict):
        return _walk_object(kind, value, stored if isinstance(stored, dict) else {}, at, result)
    if isinstance(kind, inspect.ListType | inspect.VarTupleType) and isinstance(value, list):
        # No stored counterpart: items move, and a mask must never pick up a neighbour's secret.
        return [_walk(kind.item_type, item, _NOTHING, (*at, place), result) for place, item in enumerate(value)]
    return value


def _walk_object(
    kind: inspect.StructType | inspect.DictType,
    value: dict[str, Any],
    stored: dict[str, Any],
    at: tuple[str | int, ...],
    result: Restored,
) -> dict[str, Any]:
    if isinstance(kind, inspect.DictType):
        return {
            key: _walk(kind.value_type, item, stored.get(key, _NOTHING), (*at, key), result)
            for key, item in value.items()
        }
    members = {member.encode_name: member.type for member in kind.fields}
    return {
        key: _walk(members[key], item, stored.get(key, _NOTHING), (*at, key), result) if key in members else item
        for key, item in value.items()
    }


def _kept(value: Any, stored: Any, at: tuple[str | int, ...], result: Restored) -> Any:
    if value != MASK:
        return value
    if stored is _NOTHING:
        result.missing.append(
            Flaw(at, f"{MASK} keeps a stored secret, and none is stored here: send the secret itself")
        )
        return value
    result.kept.append(at)
    return stored


def _find(kind: inspect.Type, path: str, found: set[str], above: frozenset[type]) -> None:
    if isinstance(kind, inspect.Metadata):
        _find(kind.type, path, found, above)
    elif isinstance(kind, inspect.UnionType):
        for one in kind.types:
            _find(one, path, found, above)
    elif isinstance(kind, inspect.CustomType):
        if issubclass(kind.cls, Secret):
            found.add(path)
    elif isinstance(kind, inspect.StructType):
        for member in kind.fields if kind.cls not in above else ():
            _find(member.type, f"{path}.{member.encode_name}".removeprefix("."), found, above | {kind.cls})
    elif isinstance(kind, inspect.DictType):
        _find(kind.value_type, f"{path}.*", found, above)
    elif isinstance(kind, inspect.ListType | inspect.VarTupleType):
        _find(kind.item_type, f"{path}.[]", found, above)
