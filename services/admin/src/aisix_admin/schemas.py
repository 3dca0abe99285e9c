"""marshmallow schemas derived from the Structs of the resource kinds: the one module that knows both worlds.

A kind's Struct in `aisix_common.resources` is its one definition; what is made here from it lists *all* problems of a
written document and describes it in OpenAPI. The fields hold JSON to what the Struct's decoder accepts: marshmallow's
own are more forgiving ("1" is a number to them), which would make two truths. No text here ever quotes a value.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from types import MappingProxyType
from typing import Any, Final

import msgspec
from marshmallow import EXCLUDE, RAISE, Schema, ValidationError, fields, pre_load, validate
from msgspec import inspect

from aisix_common.resources import Flaw, Kind, SecretJson
from aisix_common.resources.shapes import Tolerant, alternatives, chosen, tag_field, tags
from aisix_common.secret import Secret

MOST_WRONG: Final = 200
"""Wrong items of one array or object that are told; looking at more would only keep everybody else waiting."""
MOST_FLAWS: Final = 2000
"""Flaws of one document that are told."""


class Malformed(str):
    """A message about something that is not even readable as its type (control-plane 2.2, step 5)."""

    __slots__ = ()


class Document(Schema):
    """What all derived schemas share: unknown fields are refused."""

    class Meta:
        unknown = RAISE

    error_messages = {"unknown": "unknown field", "type": "must be an object"}  # noqa: RUF012 - marshmallow's way


class TolerantDocument(Schema):
    """The same for documents that may hold what nobody knows: it is ignored."""

    class Meta:
        unknown = EXCLUDE

    error_messages = Document.error_messages


class Tagged(Document):
    """One of several schemas, chosen by a field of the document. Subclasses say which."""

    tag: str = "kind"
    branches: Mapping[str, type[Schema]] = MappingProxyType({})

    def load(self, data: Any, **more: Any) -> Any:
        """As of every schema, by the branch that the document names."""
        if not isinstance(data, dict):
            raise ValidationError(Document.error_messages["type"])
        if self.tag not in data:
            raise ValidationError({self.tag: [_MESSAGES["required"]]})
        branch = self.branches.get(data[self.tag]) if isinstance(data[self.tag], str) else None
        if branch is None:
            raise ValidationError({self.tag: [f"must be one of: {', '.join(self.branches)}"]})
        return branch().load(data)


@cache
def schema_of(kind: Kind[Any]) -> Schema:
    """The schema that a written document of `kind` has to pass before the rules between its fields are asked.

    Made once for each kind: building one takes longer than using it.
    """
    return schema_class(kind)()


@cache
def schema_class(kind: Kind[Any]) -> type[Schema]:
    """The class of `schema_of`, named like the kind's Struct; those of nested Structs carry that name in front.

    Of a kind that is a union: a `Tagged`, whose branches are the schemas of the members.
    """
    return _Derivation(kind).whole()


def flaws(kind: Kind[Any], document: Mapping[str, Any]) -> list[Flaw]:
    """Everything in `document` that breaks the schema of its kind, in the order of the fields; unknown ones last.

    Bounded: of a document with thousands of mistakes the first ones.
    """
    found: list[Flaw] = []
    try:
        schema_of(kind).load(dict(document))
    except ValidationError as error:
        _collect(error.messages, (), found)
    except RecursionError:
        found.append(Flaw((), "nested too deeply"))
    return found[:MOST_FLAWS]


def _collect(messages: Any, at: tuple[str | int, ...], found: list[Flaw]) -> None:
    if isinstance(messages, Mapping):
        for part, inner in messages.items():
            _collect(inner, at if part == "_schema" else (*at, part), found)
    else:
        found.extend(Flaw(at, str(text), "parse" if isinstance(text, Malformed) else "schema") for text in messages)


class _Derivation:
    """Schemas of one kind's Structs. A Struct that two kinds share gets one for each: nulls are the kind's policy."""

    def __init__(self, kind: Kind[Any]) -> None:
        self._kind = kind
        self._made: dict[type, type[Schema]] = {}
        self._under_way: set[type] = set()

    def whole(self) -> type[Schema]:
        """The schema class of the kind."""
        info = inspect.type_info(self._kind.struct)
        if isinstance(info, inspect.UnionType):
            return self.union(alternatives(info), self._kind.type_name)
        return self.schema(self._kind.structs[0])

    def union(self, choices: Sequence[inspect.Type], name: str) -> type[Schema]:
        """The schema class of tagged Structs."""
        branches = {
            str(one.tag): self.schema(one.cls)
            for each in choices
            if isinstance(one := _unwrapped(each)[0], inspect.StructType)
        }
        return type(name, (Tagged,), {"tag": tag_field(choices), "branches": MappingProxyType(branches)})

    def schema(self, struct: type[msgspec.Struct]) -> type[Schema]:
        """The schema class of a Struct."""
        made = self._made.get(struct)
        if made is None:
            self._under_way.add(struct)
            info = inspect.type_info(struct)
            assert isinstance(info, inspect.StructType)
            members: dict[str, Any] = {}
            if info.tag_field is not None:
                only = validate.OneOf([str(info.tag)], error=f"must be one of: {info.tag}")
                members[info.tag_field] = Text(required=True, validate=only, error_messages=_MESSAGES)
            members |= {member.name: self._member(member) for member in info.fields}
            name = self._kind.type_name
            if struct is not self._kind.struct:
                name += struct.__name__.removeprefix(name)
            elif self._kind.renamed:
                members["accept_older_names"] = pre_load(_older_names(self._kind.renamed))
            made = (TolerantDocument if issubclass(struct, Tolerant) else Document).from_dict(members, name=name)
            made.__doc__ = struct.__doc__
            self._made[struct] = made
        return made

    def _nested(self, struct: type[msgspec.Struct], options: dict[str, Any]) -> fields.Field[Any]:
        if struct in self._under_way and struct not in self._made:  # it holds itself
            return fields.Nested(lambda: self._made[struct](), **options)
        return fields.Nested(self.schema(struct), **options)

    def _member(self, member: inspect.Field) -> fields.Field[Any]:
        kind, extra = _unwrapped(member.type)
        required = member.required or bool(extra.get("strict"))
        options: dict[str, Any] = {"required": required, "data_key": member.encode_name}
        if not required and member.default is not msgspec.NODEFAULT:
            default = _shown_default(member.default)
            if default is not None:
                options["metadata"] = {"default": default}
        return self._field(kind, extra, options)

    def _field(self, kind: inspect.Type, extra: Mapping[str, Any], options: dict[str, Any]) -> fields.Field[Any]:
        options = {"error_messages": _MESSAGES, **options}
        if isinstance(kind, inspect.UnionType):
            rest = alternatives(kind)
            options["allow_none"] = self._kind.nulls and len(rest) < len(kind.types)
            if len(rest) == 1:
                inner, more = _unwrapped(rest[0])
                return self._field(inner, {**extra, **more}, options)
            if tag_field(rest) is not None:
                return fields.Nested(
                    self.union(rest, self._kind.type_name + "".join(map(_titled, tags(rest)))), **options
                )
            return AnyOf([self._field(*_unwrapped(one), {}) for one in rest], rest, **options)
        if isinstance(kind, inspect.StructType):
            return self._nested(kind.cls, options)
        if isinstance(kind, inspect.ListType | inspect.VarTupleType):
            return Items(self._field(*_unwrapped(kind.item_type), {}), **_sized(kind, options, "item"))
        if isinstance(kind, inspect.DictType):
            return Values(self._field(*_unwrapped(kind.value_type), {}), **_sized(kind, options, "entry"))
        return _scalar(kind, extra, options)


_MESSAGES: Final[dict[str, Any]] = {
    "required": "required field is missing",
    "null": "must not be null",
    "validator_failed": "breaks a rule of its type",
}


def _unwrapped(kind: inspect.Type) -> tuple[inspect.Type, dict[str, Any]]:
    """A type without its Metadata, and what that says beyond msgspec's own constraints."""
    extra: dict[str, Any] = {}
    while isinstance(kind, inspect.Metadata):
        extra |= kind.extra or {}
        kind = kind.type
    return kind, extra


def _titled(tag: str) -> str:
    return "".join(part.title() for part in tag.split("_"))


def _shown_default(default: Any) -> Any:
    if default is None or default is msgspec.UNSET:
        return None
    return msgspec.to_builtins(default)


def _older_names(renamed: Mapping[str, str]) -> Any:
    def accept_older_names(self: Schema, document: Any, **_: Any) -> Any:
        if not isinstance(document, dict):
            return document
        plain = dict(document)
        for older, name in renamed.items():
            if older in plain:
                if name in plain:
                    raise ValidationError({older: [Malformed(f"give either `{name}` or its older spelling, not both")]})
                plain[name] = plain.pop(older)
        return plain

    return accept_older_names


def _scalar(kind: inspect.Type, extra: Mapping[str, Any], options: dict[str, Any]) -> fields.Field[Any]:
    if isinstance(kind, inspect.StrType):
        checks = list(_length(kind.min_length, kind.max_length, "character"))
        if kind.pattern is not None:
            checks.append(Pattern(kind.pattern))
            # Readers of OpenAPI take ECMAScript, where `$` means what `\\Z` means in Python.
            shown = kind.pattern.replace(r"\Z", "$")
            options = {**options, "metadata": {**options.get("metadata", {}), "pattern": shown}}
        return Text(validate=checks, **options)
    if isinstance(kind, inspect.IntType):
        return Whole(extra.get("width"), validate=_bounds(kind), **options)
    if isinstance(kind, inspect.FloatType):
        return Number(validate=_bounds(kind), **options)
    if isinstance(kind, inspect.BoolType):
        return Flag(**options)
    if isinstance(kind, inspect.LiteralType):
        allowed = [str(value) for value in kind.values]
        return Text(validate=[validate.OneOf(allowed, error=f"must be one of: {', '.join(allowed)}")], **options)
    if isinstance(kind, inspect.DateTimeType):
        return Moment(**options)
    if isinstance(kind, inspect.CustomType) and kind.cls is Secret:
        return Hidden(validate=list(_length(extra.get("min_length"), None, "character")), **options)
    if isinstance(kind, inspect.CustomType) and kind.cls is SecretJson:
        return Anything(**{**options, "allow_none": True})
    if isinstance(kind, inspect.AnyType):
        return Anything(**{**options, "allow_none": True})
    raise TypeError(f"no marshmallow field is known for {type(kind).__name__}: add it to {__name__}")


def _sized(kind: Any, options: dict[str, Any], what: str) -> dict[str, Any]:
    return {**options, "validate": list(_length(kind.min_length, kind.max_length, what))}


def _length(least: int | None, most: int | None, what: str) -> Sequence[validate.Validator]:
    checks: list[validate.Validator] = []
    if least:
        checks.append(validate.Length(min=least, error=f"must have at least {least} {what}{'s' if least > 1 else ''}"))
    if most is not None:
        checks.append(validate.Length(max=most, error=f"must have at most {most} {what}s"))
    return checks


def _bounds(kind: inspect.IntType | inspect.FloatType) -> list[validate.Validator]:
    checks: list[validate.Validator] = []
    for low, inclusive in ((kind.ge, True), (kind.gt, False)):
        if low is not None:
            text = f"must be {'at least' if inclusive else 'more than'} {low:g}"
            checks.append(validate.Range(min=low, min_inclusive=inclusive, error=text))
    for high, inclusive in ((kind.le, True), (kind.lt, False)):
        if high is not None:
            text = f"must be {'at most' if inclusive else 'less than'} {high:.0f}"
            checks.append(validate.Range(max=high, max_inclusive=inclusive, error=text))
    return checks


class Pattern(validate.Validator):
    """Found anywhere, as msgspec does; marshmallow's own Regexp looks at the beginning only."""

    def __init__(self, pattern: str) -> None:
        self._pattern = re.compile(pattern)

    def __call__(self, value: str) -> str:
        if self._pattern.search(value) is None:
            raise ValidationError("does not match the pattern of this field")
        return value


class Text(fields.String):
    """A JSON string."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> str:
        if not isinstance(value, str):
            raise ValidationError("must be a string")
        return value


class Hidden(Text):
    """A sensitive JSON string."""

    def __init__(self, **options: Any) -> None:
        about = "Shown as `***`; written back as `***` it is kept. May be a secret reference, shown as it is."
        metadata = {"format": "password", "description": about}
        super().__init__(metadata={**metadata, **options.pop("metadata", {})}, **options)


class Anything(fields.Raw):
    """Any JSON value."""


class Whole(fields.Integer):
    """A JSON number without fraction or exponent. `width` is what its integer type holds."""

    def __init__(self, width: tuple[int, int] | None = None, **options: Any) -> None:
        super().__init__(strict=True, **options)
        self._width = width

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> int:
        if type(value) is float and value.is_integer():
            raise ValidationError(Malformed("must be written as an integer, without fraction or exponent"))
        if type(value) is not int:
            raise ValidationError("must be an integer")
        if self._width is not None and value > self._width[1]:
            raise ValidationError(Malformed(f"must be at most {self._width[1]}"))
        return value


class Number(fields.Float):
    """A finite JSON number."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> float:
        if type(value) not in (int, float):
            raise ValidationError("must be a number")
        if type(value) is int and abs(value) > 2**1023:  # JSON has no bound; the walk over the types has the same
            raise ValidationError(Malformed("a number too large"))
        return float(value)


class Flag(fields.Boolean):
    """true or false."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> bool:
        if not isinstance(value, bool):
            raise ValidationError("must be true or false")
        return value


class Moment(fields.AwareDateTime):
    """An RFC 3339 time with its zone, read by the same code that reads it in the proxy."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> datetime:
        try:
            moment = msgspec.convert(value, datetime)
        except msgspec.ValidationError:
            raise ValidationError("must be an RFC 3339 time such as 2030-01-31T12:00:00Z") from None
        if moment.tzinfo is None:
            raise ValidationError("must name its zone, as in 2030-01-31T12:00:00Z")
        return moment


class Items(fields.List[Any]):
    """A JSON array."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **more: Any) -> list[Any]:
        if not isinstance(value, list):
            raise ValidationError("must be an array")
        loaded: list[Any] = []
        wrong: dict[int, Any] = {}
        for place, item in enumerate(value):
            try:
                loaded.append(self.inner.deserialize(item, **more))
            except ValidationError as error:
                wrong[place] = error.messages
                if len(wrong) == MOST_WRONG:
                    break
        if wrong:
            raise ValidationError(wrong)
        return loaded


class Values(fields.Dict):
    """A JSON object with free keys and values of one type."""

    def __init__(self, inner: fields.Field[Any], **options: Any) -> None:
        super().__init__(values=inner, **options)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **more: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValidationError("must be an object")
        assert self.value_field is not None
        loaded: dict[str, Any] = {}
        wrong: dict[str, Any] = {}
        for key, item in value.items():
            try:
                loaded[key] = self.value_field.deserialize(item, **more)
            except ValidationError as error:
                wrong[key] = error.messages  # by key alone, not under marshmallow's "value": paths name the document
                if len(wrong) == MOST_WRONG:
                    break
        if wrong:
            raise ValidationError(wrong)
        return loaded


class AnyOf(fields.Field[Any]):
    """A value of one of several types that differ in JSON: which one is meant, the value says."""

    def __init__(self, choices: Sequence[fields.Field[Any]], types: Sequence[inspect.Type], **options: Any) -> None:
        super().__init__(**options)
        self.choices: Final = tuple(choices)
        self._types = tuple(types)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **more: Any) -> Any:
        meant = chosen(self._types, value)
        place = next(place for place, one in enumerate(self._types) if one is meant)
        return self.choices[place].deserialize(value, attr, data, **more)
