"""From a raw tree and overrides to typed sections, leaf by leaf, collecting every problem on the way.

msgspec alone stops at its first error, drops unknown keys silently and quotes values in its texts; here it converts
single leaves only. Reasons name the rule and never the value. Knows the types of values.py but no single setting.
"""

import difflib
import math
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import msgspec

from aisix_common import yaml12
from aisix_common.errors import ConfigurationError, Problem

from .sources import Override, Plain, parse_document
from .values import Address, Parse, Section

_WORDS: Final[Mapping[str, bool]] = types.MappingProxyType(
    {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
)
_FAILED: Final = object()


@dataclass(frozen=True, slots=True)
class Shape:
    """An annotation taken apart."""

    type: Any
    marks: tuple[Any, ...]
    optional: bool
    short: "Shape | None" = None
    """What may stand in place of a section: the key of an admin instead of the map that says more about it."""

    def mark(self, kind: type) -> Any:
        """The first mark of a kind, or None."""
        return next((mark for mark in self.marks if isinstance(mark, kind)), None)

    @property
    def section(self) -> type[Section] | None:
        """The section this field holds, if it holds one."""
        return self.type if isinstance(self.type, type) and issubclass(self.type, Section) else None


def shape(annotation: Any) -> Shape:
    """Take `Annotated`, `X | None`, `X | Section` and what is inside them apart."""
    marks: tuple[Any, ...] = ()
    optional = False
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation, *more = get_args(annotation)
            marks += tuple(more)
        elif origin in (Union, types.UnionType) and type(None) in get_args(annotation):
            optional = True
            rest = [member for member in get_args(annotation) if member is not type(None)]
            annotation = rest[0] if len(rest) == 1 else Union[tuple(rest)]  # noqa: UP007 - members are data here
        elif origin in (Union, types.UnionType) and (found := _shortened(get_args(annotation))) is not None:
            section, short = found
            return Shape(section, marks, optional, shape(short))
        else:
            return Shape(annotation, marks, optional)


def _shortened(members: tuple[Any, ...]) -> tuple[type[Section], Any] | None:
    """The section of a union of a section and one other type, and that type."""
    sections = [member for member in members if isinstance(member, type) and issubclass(member, Section)]
    if len(members) != 2 or len(sections) != 1:
        return None
    return sections[0], next(member for member in members if member is not sections[0])


def join(path: str, name: str) -> str:
    """The dotted path of a field."""
    return f"{path}.{name}" if path else name


def leaves(section: type[Section], path: str = "") -> Iterator[tuple[str, msgspec.structs.FieldInfo]]:
    """Every field below `section` that is no section itself, with its dotted path, in the order of declaration."""
    for field in msgspec.structs.fields(section):
        inner = shape(field.type).section
        here = join(path, field.name)
        if inner is None:
            yield here, field
        else:
            yield from leaves(inner, here)


class Walker:
    """One conversion; `problems` holds what was found so far."""

    def __init__(self, overrides: Mapping[str, Override], problems: list[Problem]) -> None:
        self._overrides = overrides
        self.problems = problems

    def section(self, kind: type[Section], raw: Any, path: str) -> Any:
        """`raw` as a `kind`. Whatever is missing or wrong is reported and stands in by its default, or by something
        of its type, so that rules between fields can still be looked at."""
        readable = raw is None or isinstance(raw, dict)
        if not readable:
            self._report(path, "must be a map of settings")
        tree: dict[str, Any] = raw if isinstance(raw, dict) else {}
        fields = msgspec.structs.fields(kind)
        self._refuse_unknown(tree, [field.name for field in fields], path)
        values = {}
        for field in fields:
            value = self._field(field, tree, join(path, field.name), readable)
            values[field.name] = _stand_in(field) if value is _FAILED else value
        return kind(**values)

    def _refuse_unknown(self, tree: dict[str, Any], names: list[str], path: str) -> None:
        for key in tree:
            if key not in names:
                near = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
                hint = f"did you mean {join(path, near[0])}?" if near else f"known here: {', '.join(names)}"
                self._report(join(path, key), f"is not a setting; {hint}")

    def _field(self, field: msgspec.structs.FieldInfo, tree: dict[str, Any], path: str, readable: bool) -> Any:
        form = shape(field.type)
        raw = tree.get(field.name)
        if _is_null(raw):
            raw = None
        override = self._overrides.get(path)
        inner = form.section
        if inner is not None:
            touched = any(name.startswith(path + ".") for name in self._overrides)
            if raw is None and not touched:
                if field.required and readable:
                    self._report(path, "is required")
                return _FAILED if field.required else _default(field)
            return self.section(inner, raw, path)
        if override is not None:
            return self._value(form, override.text, path, f" (set by {override.variable})")
        if raw is None:
            if field.required and readable:
                self._report(path, "is required")
            return _FAILED if field.required else _default(field)
        return self._value(form, raw, path, "")

    def _value(self, form: Shape, raw: Any, path: str, origin: str) -> Any:
        """One value that is not a section of its own."""
        if form.short is not None and not isinstance(raw, dict):
            return self._value(form.short, raw, path, origin)
        if form.section is not None:
            return self.section(form.section, raw, path)
        if get_origin(form.type) is tuple:
            return self._list(form, raw, path, origin)
        if get_origin(form.type) is Mapping:
            tree = self._decoded(raw, path, origin) if isinstance(raw, str) else raw
            if tree is _FAILED or isinstance(tree, dict):
                return _FAILED if tree is _FAILED else _resolved(tree)
            return self._fail(path, "must be a map", origin)
        try:
            return _leaf(form, raw)
        except ValueError as error:
            return self._fail(path, str(error), origin)

    def _list(self, form: Shape, raw: Any, path: str, origin: str) -> Any:
        """A list. One text is cut at commas, or read as JSON where the items are maps; where they may be either, it is
        JSON when it begins like a list of it."""
        item = shape(get_args(form.type)[0])
        if isinstance(raw, Plain):
            raw = raw.text
        if isinstance(raw, str):
            if not raw.strip():
                return ()
            if item.section is not None and (item.short is None or raw.lstrip().startswith("[")):
                raw = self._decoded(raw, path, origin)
                if raw is _FAILED:
                    return _FAILED
            else:
                raw = [part.strip() for part in raw.split(",")]
        if not isinstance(raw, list):
            return self._fail(path, "must be a list", origin)
        values = [self._value(item, part, f"{path}[{index}]", origin) for index, part in enumerate(raw)]
        return _FAILED if any(value is _FAILED for value in values) else tuple(values)

    def _decoded(self, text: str, path: str, origin: str) -> Any:
        try:
            return parse_document(text, ".json")
        except ConfigurationError as error:
            return self._fail(path, f"must be JSON: {error}", origin)

    def _fail(self, path: str, reason: str, origin: str) -> Any:
        self._report(path, reason + origin)
        return _FAILED

    def _report(self, path: str, reason: str) -> None:
        self.problems.append(Problem(path, reason))


def _is_null(raw: Any) -> bool:
    return isinstance(raw, Plain) and yaml12.is_null(raw.text)


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return field.default_factory()


def _stand_in(field: msgspec.structs.FieldInfo) -> Any:
    """Something of the right type for a field that failed; it never leaves `load`."""
    if not field.required:
        return _default(field)
    kind = shape(field.type)
    if kind.section is not None:
        inner = msgspec.structs.fields(kind.section)
        return kind.section(**{part.name: _stand_in(part) for part in inner})
    return Address("127.0.0.1", 0) if kind.type is Address else ""


def _resolved(raw: Any) -> Any:
    """A free-form tree with its plain scalars turned into values."""
    if isinstance(raw, Plain):
        return yaml12.resolve(raw.text)
    if isinstance(raw, dict):
        return {key: _resolved(value) for key, value in raw.items()}
    return [_resolved(item) for item in raw] if isinstance(raw, list) else raw


def _leaf(form: Shape, raw: Any) -> Any:
    """A scalar. Raises ValueError with the rule."""
    parser = form.mark(Parse)
    if parser is not None:
        return parser.parse(_text(raw))
    if get_origin(form.type) is Literal:
        choices = get_args(form.type)
        text = _text(raw)
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text
    if form.type is bool:
        return _boolean(raw)
    if form.type is str:
        return _text(raw)
    return _number(form, raw)


def _text(raw: Any) -> str:
    """The text of a scalar; numbers and booleans that a file's language knows as such read as they are written."""
    if isinstance(raw, Plain):
        raw = raw.text
    elif isinstance(raw, bool):
        raw = str(raw).lower()
    elif isinstance(raw, int | float):
        raw = str(raw)
    if not isinstance(raw, str):
        raise ValueError("must be text")
    if "\0" in raw or any("\ud800" <= character <= "\udfff" for character in raw):
        raise ValueError("must be text that can be written as UTF-8, without NUL")
    return raw


def _boolean(raw: Any) -> bool:
    text = _text(raw).strip().lower() if isinstance(raw, bool | int | str | Plain) else ""
    if text not in _WORDS:
        raise ValueError("must be true or false")
    return _WORDS[text]


def _number(form: Shape, raw: Any) -> Any:
    bounds = [mark for mark in form.marks if isinstance(mark, msgspec.Meta)]
    if isinstance(raw, Plain):
        raw = yaml12.resolve(raw.text)
    if isinstance(raw, str):
        raw = raw.strip()
    try:
        if isinstance(raw, bool):
            raise ValueError
        wanted = Annotated[form.type, *bounds] if bounds else form.type
        number = msgspec.convert(raw, wanted, strict=False)
        if not math.isfinite(number):
            raise ValueError
    except (msgspec.ValidationError, ValueError, OverflowError, TypeError):
        raise ValueError(f"must be {number_rule(form)}") from None
    return number


def number_rule(form: Shape) -> str:
    """What a number field takes, in words."""
    noun = "a whole number" if form.type is int else "a finite number"
    bounds = form.mark(msgspec.Meta)
    if bounds is None:
        return noun
    if bounds.le is None or bounds.le == 2**63 - 1:
        return f"{noun} of at least {bounds.ge}"
    return f"{noun} from {bounds.ge} to {bounds.le}"
