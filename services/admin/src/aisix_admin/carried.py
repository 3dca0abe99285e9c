"""What a PUT leaves as it is: fields of the stored document that this build does not know.

Rows are also written by newer and foreign writers (an older admin beside a newer one during an upgrade). A client that
reads a row, edits it and writes it back never saw those fields, so their absence from the body means nothing. They are
never shown and cannot be set here. Pure.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import inspect

from aisix_common.resources import Kind
from aisix_common.resources.reading import one_spelling
from aisix_common.resources.shapes import alternatives, chosen


def carried(kind: Kind[Any], stored: bytes, written: Mapping[str, Any]) -> dict[str, Any]:
    """`written` (a document in clear) with the unknown fields of `stored` (the row it replaces, readable as `kind`).

    Also those inside of objects that are there before and after. Items of arrays are left alone: they move, and one
    must not get what was its neighbour's. Fields that once existed and mean nothing (`kind.tombstones`) are dropped.
    """
    old, _ = one_spelling(kind, msgspec.json.decode(stored))
    joined: dict[str, Any] = _joined(kind, inspect.type_info(kind.struct), old, written, "")
    return joined


def _joined(kind: Kind[Any], node: inspect.Type, old: Any, new: Any, at: str) -> Any:
    if isinstance(node, inspect.Metadata):
        return _joined(kind, node.type, old, new, at)
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return new
    if isinstance(node, inspect.UnionType):
        choices = alternatives(node)
        one = chosen(choices, new)
        # Of a row that has become something else, an unknown field would be of that other thing.
        return _joined(kind, one, old, new, at) if one is not None and one is chosen(choices, old) else new
    if isinstance(node, inspect.DictType):
        return {name: _joined(kind, node.value_type, old.get(name), item, f"{at}{name}.") for name, item in new.items()}
    if not isinstance(node, inspect.StructType):
        return new
    known = {member.encode_name: member.type for member in node.fields}
    ignored = kind.tombstones if node.tag_field is None else {*kind.tombstones, f"{at}{node.tag_field}"}
    kept = {name: item for name, item in old.items() if name not in known and f"{at}{name}" not in ignored}
    ours = {
        name: _joined(kind, known[name], old.get(name), item, f"{at}{name}.") if name in known else item
        for name, item in new.items()
    }
    return kept | ours
