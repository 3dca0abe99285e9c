"""One walk over a document along the Struct types of its kind: every flaw, every unknown path, and a cleaned copy.

msgspec stops at the first error and says nothing of unknown keys (design 6); this walk is slower and says all. It
knows types, not kinds: rules between fields are the kinds' own.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, Final

import msgspec
from msgspec import inspect

from .flaw import LONGEST_NAME, Flaw, Path
from .sensitive import SecretJson
from .shapes import Tolerant, alternatives, chosen, tag_field, tags


@dataclass(slots=True)
class Findings:
    """What a walk found. `cleaned` is the document without unknown fields; only meaningful while there are no flaws."""

    flaws: list[Flaw] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)
    cleaned: Any = None


DEEPEST: Final = 32
"""Parts of a path; only conditions of conditions could go on for ever, and their own bound is much lower."""


def walk(struct: Any, document: Any, *, strict: bool, nulls: bool) -> Findings:
    """Hold `document` (JSON types) against `struct`: a Struct, or a union of tagged ones.

    `strict`: unknown fields are flaws (but for Tolerant Structs), and fields that only a writer must give are required.
    `nulls`: whether null stands for an absent optional field. Raises RecursionError for nothing: depth is bounded.
    """
    walker = _Walker(strict, nulls)
    walker.findings.cleaned = walker.visit(_shape(struct), document, (), {})
    return walker.findings


@cache
def _shape(struct: Any) -> inspect.Type:
    return inspect.type_info(struct)


class _Walker:
    def __init__(self, strict: bool, nulls: bool) -> None:
        self.strict = strict
        self.nulls = nulls
        self.findings = Findings()

    def visit(self, node: Any, value: Any, at: Path, extra: Mapping[str, Any]) -> Any:
        """The cleaned value; flaws and unknown paths are collected on the way."""
        if isinstance(node, inspect.Metadata):
            return self.visit(node.type, value, at, {**extra, **(node.extra or {})})
        return VISITS[type(node)](self, node, value, at, extra)

    def flaw(self, at: Path, reason: str) -> None:
        self.findings.flaws.append(Flaw(at, reason))

    def expect(self, fits: bool, type_name: str, at: Path) -> bool:
        if not fits:
            self.flaw(at, f'value is not of type "{type_name}"')
        return fits

    def record(self, node: inspect.StructType, value: Any, at: Path, extra: Mapping[str, Any]) -> Any:
        if not self.expect(isinstance(value, dict), "object", at):
            return value
        if len(at) > DEEPEST:
            self.flaw(at, "nested too deeply")
            return value
        fields = {each.encode_name: each for each in node.fields}
        cleaned = {
            name: self.visit(each.type, value[name], (*at, name), {}) for name, each in fields.items() if name in value
        }
        if node.tag_field is not None and node.tag_field in value:
            cleaned[node.tag_field] = value[node.tag_field]
        for name, each in fields.items():
            if name not in value and (each.required or (self.strict and _only_strictly_required(each.type))):
                self.flaw(at, f'"{name}" is a required property')
        for name in value:
            if name not in fields and name != node.tag_field:
                self.unknown((*at, name), issubclass(node.cls, Tolerant))
        return cleaned

    def unknown(self, at: Path, tolerated: bool) -> None:
        if self.strict and not tolerated:
            self.flaw(at, "unknown field")
        else:
            self.findings.unknown.add(dotted(at))

    def union(self, node: inspect.UnionType, value: Any, at: Path, extra: Mapping[str, Any]) -> Any:
        if value is None and self.nulls and any(isinstance(each, inspect.NoneType) for each in node.types):
            return None
        choices = alternatives(node)
        choice = chosen(choices, value)
        if choice is None:
            return self.untold(choices, value, at)
        return self.visit(choice, value, at, extra)

    def untold(self, choices: list[inspect.Type], value: Any, at: Path) -> Any:
        """None of the tagged Structs can be meant: say why."""
        field = tag_field(choices)
        if not self.expect(isinstance(value, dict), "object", at) or field is None:
            return value
        if field in value:
            self.flaw((*at, field), "value is not one of " + ", ".join(f'"{tag}"' for tag in tags(choices)))
        else:
            self.flaw(at, f'"{field}" is a required property')
        return value

    def text(self, node: inspect.StrType, value: Any, at: Path, extra: Mapping[str, Any]) -> Any:
        if self.expect(isinstance(value, str), "string", at):
            self.length(node, value, at, "character")
            if node.pattern is not None and re.search(node.pattern, value) is None:
                self.flaw(at, f'value does not match "{node.pattern}"')
        return value

    def length(self, node: Any, value: Any, at: Path, unit: str) -> None:
        if node.min_length is not None and len(value) < node.min_length:
            self.flaw(at, f"value is shorter than {_counted(node.min_length, unit)}")
        if node.max_length is not None and len(value) > node.max_length:
            self.flaw(at, f"value is longer than {_counted(node.max_length, unit)}")

    def whole(self, node: inspect.IntType, value: Any, at: Path, extra: Mapping[str, Any]) -> Any:
        number = type(value) is int or (type(value) is float and value.is_integer())
        if not self.expect(number, "integer", at):
            return value
        low, high = extra.get("width", (None, None))
        if node.ge is not None and value < node.ge and node.ge != (low or None):
            self.flaw(at, f"value is less than the minimum of {node.ge}")
        elif node.le is not None and value > node.le and node.le != high:
            self.flaw(at, f"value is greater than the maximum of {node.le}")
        elif type(value) is float:
            self.malformed(at, "an integer written with a fraction or an exponent")
        elif low is not None and not low <= value <= high:
            self.malformed(at, f"an integer outside of {low} to {high}")
        return value

    def malformed(self, at: Path, reason: str) -> None:
        self.findings.flaws.append(Flaw(at, reason, step="parse"))

    def number(self, node: inspect.FloatType, value: Any, at: Path, extra: Mapping[str, Any]) -> Any:
        if self.expect(type(value) in (int, float), "number", at):
            if node.ge is not None and value < node.ge:
                self.flaw(at, f"value is less than the minimum of {node.ge:g}")
            if node.le is not None and value > node.le:
                self.flaw(at, f"value is greater than the maximum of {node.le:g}")
            if type(value) is int and abs(value) > 2**1023:
                self.malformed(at, "a number too large")
        return value

    def flag(self, node: inspect.BoolType, value: Any, at: Path, extra: Mapping[str, Any]) -> Any:
        self.expect(isinstance(value, bool), "boolean", at)
        return value

    def moment(self, node: inspect.DateTimeType, value: Any, at: Path, extra: Mapping[str, Any]) -> Any:
        if self.expect(isinstance(value, str), "string", at) and not is_moment(value):
            self.flaw(at, 'value is not a "date-time" (RFC 3339, such as 2030-01-31T12:00:00Z)')
        return value

    def choice(self, node: inspect.LiteralType, value: Any, at: Path, extra: Mapping[str, Any]) -> Any:
        if not isinstance(value, str) or value not in node.values:
            self.flaw(at, "value is not one of " + ", ".join(f'"{each}"' for each in node.values))
        return value

    def items(self, node: inspect.VarTupleType, value: Any, at: Path, extra: Mapping[str, Any]) -> Any:
        if not self.expect(isinstance(value, list), "array", at):
            return value
        self.length(node, value, at, "item")
        return [self.visit(node.item_type, item, (*at, place), {}) for place, item in enumerate(value)]

    def mapping(self, node: inspect.DictType, value: Any, at: Path, extra: Mapping[str, Any]) -> Any:
        if not self.expect(isinstance(value, dict), "object", at):
            return value
        return {name: self.visit(node.value_type, item, (*at, name), {}) for name, item in value.items()}

    def anything(self, node: inspect.AnyType, value: Any, at: Path, extra: Mapping[str, Any]) -> Any:
        return value

    def hidden(self, node: inspect.CustomType, value: Any, at: Path, extra: Mapping[str, Any]) -> Any:
        if node.cls is SecretJson:
            return value
        if self.expect(isinstance(value, str), "string", at) and len(value) < extra.get("min_length", 0):
            self.flaw(at, "value is shorter than 1 character")
        return value


VISITS: Final[Mapping[type, Callable[..., Any]]] = MappingProxyType(
    {
        inspect.StructType: _Walker.record,
        inspect.UnionType: _Walker.union,
        inspect.StrType: _Walker.text,
        inspect.IntType: _Walker.whole,
        inspect.FloatType: _Walker.number,
        inspect.BoolType: _Walker.flag,
        inspect.DateTimeType: _Walker.moment,
        inspect.LiteralType: _Walker.choice,
        inspect.VarTupleType: _Walker.items,
        inspect.DictType: _Walker.mapping,
        inspect.AnyType: _Walker.anything,
        inspect.CustomType: _Walker.hidden,
    }
)


def dotted(at: Path) -> str:
    """A path as `/status/config` shows it: dotted, every array index a `[]` (control-plane 2.2)."""
    return ".".join("[]" if isinstance(part, int) else part[:LONGEST_NAME] for part in at)


def is_moment(value: str) -> bool:
    """Whether msgspec reads `value` as a time with a zone."""
    try:
        msgspec.convert(value, _Moment)
    except msgspec.ValidationError:
        return False
    return True


_Moment = Annotated[datetime, msgspec.Meta(tz=True)]


def _only_strictly_required(node: Any) -> bool:
    return isinstance(node, inspect.Metadata) and bool((node.extra or {}).get("strict"))


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}{'' if number == 1 else 's'}"
