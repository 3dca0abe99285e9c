"""Members of documents that look like secrets, for rows whose type is not known: a newer Cloud's. Pure.

The names are those of every field that is a Secret by its type in some kind (design 6), so nobody keeps a list of them;
a few more that are never anything else are added.
"""

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

from msgspec import inspect

from aisix_common.resources import ALL_KINDS, SecretJson
from aisix_common.resources.shapes import plain
from aisix_common.secret import Secret


class Shape(Enum):
    """What a member of such a name holds."""

    TEXT = "a secret text"
    TEXTS = "an object of secret texts"
    VALUES = "an object of secret JSON values"


MORE: Final = (
    *("access_token", "client_secret", "passphrase", "password", "private_key", "refresh_token"),
    *("secret_key", "signing_key"),
)
PRIVATE_KEY: Final = "PRIVATE KEY-----"
"""A text with this in it is a secret wherever it stands."""


def _shapes() -> Iterator[tuple[str, Shape]]:
    for name in MORE:
        yield name, Shape.TEXT
    for kind in ALL_KINDS:
        found = dict(pair for struct in kind.structs for pair in _fields(inspect.type_info(struct), frozenset()))
        yield from found.items()
        yield from ((older, found[name]) for older, name in kind.renamed.items() if name in found)


def _fields(node: inspect.Type, seen: frozenset[type]) -> Iterator[tuple[str, Shape]]:
    """(name, shape) of the secret fields of a type and of all in it. `seen`: the Structs around it."""
    node = plain(node)
    if isinstance(node, inspect.UnionType):
        for each in node.types:
            yield from _fields(each, seen)
    elif isinstance(node, inspect.VarTupleType):
        yield from _fields(node.item_type, seen)
    elif isinstance(node, inspect.DictType):
        yield from _fields(node.value_type, seen)
    elif isinstance(node, inspect.StructType) and node.cls not in seen:
        for field in node.fields:
            shape = next(filter(None, map(_shape, _alternatives(field.type))), None)
            if shape is not None:
                yield field.encode_name, shape
            yield from _fields(field.type, seen | {node.cls})


def _alternatives(node: inspect.Type) -> tuple[inspect.Type, ...]:
    node = plain(node)
    return tuple(map(plain, node.types)) if isinstance(node, inspect.UnionType) else (node,)


def _shape(node: inspect.Type) -> Shape | None:
    if isinstance(node, inspect.DictType):
        held = _class(node.value_type)
        return Shape.VALUES if held is SecretJson else Shape.TEXTS if held is Secret else None
    return Shape.TEXT if _class(node) is Secret else None


def _class(node: inspect.Type) -> Any:
    node = plain(node)
    return node.cls if isinstance(node, inspect.CustomType) else None


SHAPES: Final[Mapping[str, Shape]] = MappingProxyType(dict(_shapes()))
_SUSPECT: Final = re.compile(
    rb'"(?:' + b"|".join(re.escape(name.encode()) for name in sorted(SHAPES)) + rb')"|\\u|' + PRIVATE_KEY.encode()
)
r"""JSON may spell any character as `\u....`."""


def may_hold_secret(raw: bytes) -> bool:
    """Whether a row may hold a secret in whatever form. Cheap; False is certain for every kind that is known."""
    return _SUSPECT.search(raw) is not None
