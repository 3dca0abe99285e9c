"""A typed resource back as a JSON document: in clear for storing, masked for showing.

Fields that are absent or null stay away; defaults are written out, except a kind's `terse` ones.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import msgspec

from aisix_common.secret import MASK, Secret, is_reference

from .kind import Kind, Resource
from .sensitive import SecretJson
from .shapes import tagged


def document(kind: Kind[Resource], value: Resource) -> dict[str, Any]:
    """What is stored in etcd. Holds secrets in clear: never log it, never answer with it."""
    return _document(kind, value, _revealed)


def masked(kind: Kind[Resource], value: Resource) -> dict[str, Any]:
    """What may be shown: `***` for every sensitive value, everything else as in `document`.

    A reference is shown as it is: it says where the secret is, not what.
    """
    return _document(kind, value, _masked)


def _masked(secret: Secret) -> str:
    text = secret.stored
    return text if text is not None and is_reference(text) else MASK


def _revealed(secret: Secret) -> Any:
    return secret.value() if isinstance(secret, SecretJson) else secret.reveal()


def _document(kind: Kind[Resource], value: Resource, unwrap: Callable[[Secret], Any]) -> dict[str, Any]:
    plain: dict[str, Any] = _plain(value, unwrap)
    for name, encoded, default in _terse(kind, type(value)) if kind.terse else ():
        if getattr(value, name) == default:
            plain.pop(encoded, None)
    return plain


@cache
def _terse(kind: Kind[Any], struct: type[msgspec.Struct]) -> Sequence[tuple[str, str, Any]]:
    """Name, name in JSON and default of the terse fields: asked for every row, and slow to look up."""
    fields = msgspec.structs.fields(struct)
    return [(field.name, field.encode_name, field.default) for field in fields if field.name in kind.terse]


def _plain(value: Any, unwrap: Callable[[Secret], Any]) -> Any:
    """Struct by struct, so that a null inside a sensitive JSON value survives and an absent field does not appear."""
    if isinstance(value, msgspec.Struct):
        fields = ((name, getattr(value, name)) for name in value.__struct_fields__)
        return tagged(value) | {
            name: _plain(field, unwrap) for name, field in fields if field is not None and field is not msgspec.UNSET
        }
    if isinstance(value, Secret):
        return unwrap(value)
    if isinstance(value, dict):
        return {name: _plain(item, unwrap) for name, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item, unwrap) for item in value]
    return msgspec.to_builtins(value)
