"""What a row or a part of it can be: one Struct, or a union of Structs told apart by a tag (`kind`).

Knows types only, and how a JSON value chooses among them: the walk, the admin's schemas and its masks all ask here, so
that they never disagree on which member of a union a document is.
"""

from collections.abc import Sequence
from typing import Any, get_args

import msgspec
from msgspec import inspect


class Tolerant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A Struct whose documents may carry unknown fields even when they are written: those are ignored.

    Declared by type, as secrets are. The decoder is closed all the same, so that readers notice and report them.
    """


def members(struct: Any) -> tuple[type[msgspec.Struct], ...]:
    """The Structs of a kind: of a union its members, in their order."""
    return get_args(struct) or (struct,)


def tagged(value: msgspec.Struct) -> dict[str, Any]:
    """The tag of a member of a union as a part of its document; empty for a plain Struct."""
    config = value.__struct_config__
    return {} if config.tag_field is None else {config.tag_field: config.tag}


def alternatives(node: inspect.UnionType) -> list[inspect.Type]:
    """What a union can be apart from null."""
    return [each for each in node.types if not isinstance(each, inspect.NoneType)]


def tag_field(choices: Sequence[inspect.Type]) -> str | None:
    """The field that tells the members of a union apart; None where the JSON type does."""
    first = plain(choices[0])
    return first.tag_field if isinstance(first, inspect.StructType) else None


def tags(choices: Sequence[inspect.Type]) -> list[str]:
    """The tags of tagged Structs, in their order."""
    return [str(each.tag) for each in map(plain, choices) if isinstance(each, inspect.StructType)]


def plain(node: inspect.Type) -> inspect.Type:
    """A type without its metadata."""
    while isinstance(node, inspect.Metadata):
        node = node.type
    return node


def chosen(choices: Sequence[inspect.Type], value: Any) -> inspect.Type | None:
    """The alternative that `value` (JSON types) is meant to be; None where it cannot be told.

    By tag among tagged Structs, else by JSON type: object, array, or anything else.
    """
    if len(choices) == 1:
        return choices[0]
    field = tag_field(choices)
    if field is not None:
        tag = value.get(field) if isinstance(value, dict) else None
        return next(
            (each for each in choices if isinstance(tag, str) and getattr(plain(each), "tag", None) == tag), None
        )
    return next((each for each in choices if _json_type(plain(each)) is _json_type_of(value)), choices[0])


def _json_type(node: inspect.Type) -> type:
    if isinstance(node, inspect.StructType | inspect.DictType):
        return dict
    return list if isinstance(node, inspect.VarTupleType | inspect.ListType) else str


def _json_type_of(value: Any) -> type:
    return type(value) if isinstance(value, dict | list) else str
