"""Values drawn from a JSON schema, for hypothesis: as much of the language as values_schema.py speaks.

(The package hypothesis-jsonschema, which speaks all of it, does not run with the hypothesis of today.)
"""

from typing import Any, Final

import jsonschema_rs
from hypothesis import strategies as st

Schema = dict[str, Any]

TEXT: Final = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=10)
_BOUND: Final = 10_000_000_000


def valid(schema: Schema, definitions: Schema) -> st.SearchStrategy[Any]:
    """Values that the schema allows."""
    validator = jsonschema_rs.Draft7Validator({**schema, "definitions": definitions})
    return _drawn(schema, definitions).filter(validator.is_valid)


def _drawn(schema: Schema, definitions: Schema) -> st.SearchStrategy[Any]:
    """Mostly such values: what no strategy keeps by itself, `valid` filters."""
    if "$ref" in schema:
        return _drawn(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "allOf" in schema:
        (only,) = schema["allOf"]
        return _drawn(only, definitions)
    if "anyOf" in schema:
        return st.one_of([_drawn(one, definitions) for one in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    drawn: st.SearchStrategy[Any] = _TYPES[schema["type"]](schema, definitions)
    return drawn


def _text(schema: Schema, _: Schema) -> st.SearchStrategy[Any]:
    if "pattern" not in schema:
        return TEXT if not schema.get("minLength") else TEXT.filter(bool)
    pattern = st.from_regex(schema["pattern"], fullmatch=True, alphabet=st.characters(max_codepoint=126))
    return pattern.filter(lambda text: "\n" not in text and len(text) <= schema.get("maxLength", 60))


def _number(schema: Schema, _: Schema) -> st.SearchStrategy[Any]:
    return st.integers(schema.get("minimum", -_BOUND), schema.get("maximum", _BOUND))


def _list(schema: Schema, definitions: Schema) -> st.SearchStrategy[Any]:
    items = _drawn(schema["items"], definitions)
    unique_by = repr if schema.get("uniqueItems") else None
    return st.lists(items, min_size=schema.get("minItems", 0), max_size=3, unique_by=unique_by)


def _map(schema: Schema, definitions: Schema) -> st.SearchStrategy[Any]:
    if isinstance(schema.get("additionalProperties"), dict):
        names = _text(schema["propertyNames"], definitions) if "propertyNames" in schema else TEXT.filter(bool)
        return st.dictionaries(names, _drawn(schema["additionalProperties"], definitions), max_size=3)
    parts = {name: _drawn(part, definitions) for name, part in schema.get("properties", {}).items()}
    needed = {name: parts.pop(name) for name in schema.get("required", []) if name in parts}
    return st.fixed_dictionaries(needed, optional=parts)


_TYPES: Final[dict[str, Any]] = {
    "string": _text,
    "integer": _number,
    "number": _number,
    "boolean": lambda *_: st.booleans(),
    "null": lambda *_: st.none(),
    "array": _list,
    "object": _map,
}
