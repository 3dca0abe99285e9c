"""The page `docs/reference/configuration.md`, made from the sections' types, defaults and docstrings.

    python -m aisix_common.settings.reference > docs/reference/configuration.md

Docstrings below fields are read from the source, so this module needs the source files; nothing at run time does.
"""

import ast
import inspect
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, get_args, get_origin

import msgspec

from aisix_common.secret import Secret

from .schema import Settings
from .sources import variable_name
from .values import Address, Later, NoEffect, Parse, Section
from .walker import Shape, join, number_rule, shape

_HEAD: Final = """\
<!-- Made by `python -m aisix_common.settings.reference`; change the docstrings in aisix_common/settings instead. -->

# Configuration

`aisix --config FILE` and every service read one file: YAML (`.yaml`, `.yml`), JSON or TOML, by its extension. YAML is
read as YAML 1.2: `no` and `on` are texts, `22:00` is no number, a key given twice is an error. Unknown keys are errors.
A setting left out, or `null`, has its default. Everything is read once at start.

**Environment.** `AISIX_` and the path with `__` between its parts overrides the file, in any case: `AISIX_PROXY__ADDR`
sets `proxy.addr`. The text is read by the setting's type, so `0123` stays `0123` where text is wanted. Lists are cut at
commas; lists of maps are given as JSON. A variable with `__` that names no setting is an error; any other `AISIX_*`
that is not a setting is left alone. `RUST_LOG` overrides `observability.log_level`.

**Errors.** All problems are reported at once, each on a line with its path, and the exit code is 1. No message shows a
value.

*(later)* marks settings that are read and checked while what they control is not built yet; a warning at start names
those that are set.
"""


def render() -> str:
    """The whole page."""
    parts = [_HEAD]
    parts += [_section(path, kind, late) for path, kind, late in _sections(Settings, "", False)]
    return "\n".join(parts)


def is_current(page: str) -> bool:
    """Whether `page`, the text of the committed file, is what `render` makes today."""
    return page == render()


def paths() -> tuple[str, ...]:
    """Every setting, as it is written on the page; `[]` stands for any item of a list."""
    return tuple(
        join(path, field.name)
        for path, kind, _ in _sections(Settings, "", False)
        for field in msgspec.structs.fields(kind)
        if shape(field.type).section is None
    )


def _sections(kind: type[Section], path: str, late: bool) -> Iterator[tuple[str, type[Section], bool]]:
    """Every section with its path, depth first in the order of declaration, those in lists too, and whether the whole
    of it is marked as later."""
    yield path, kind, late
    for field in msgspec.structs.fields(kind):
        form = shape(field.type)
        here = join(path, field.name)
        inner = form.section
        if get_origin(form.type) is tuple:
            inner, here = shape(get_args(form.type)[0]).section, f"{here}[]"
        if inner is not None:
            yield from _sections(inner, here, late or form.mark(Later) is not None)


def _section(path: str, kind: type[Section], late: bool) -> str:
    notes = _docstrings(kind)
    lines = [f"## `{path}`" if path else "## At the root", "", _one_line(inspect.getdoc(kind) or ""), ""]
    rows = [field for field in msgspec.structs.fields(kind) if shape(field.type).section is None]
    if rows:
        lines += ["| Setting | Type | Default | Meaning |", "| --- | --- | --- | --- |"]
        lines += [_row(join(path, field.name), field, notes.get(field.name, ""), late) for field in rows]
        lines.append("")
    optional = [field.name for field in msgspec.structs.fields(kind) if shape(field.type).section]
    if optional:
        names = ", ".join(
            f"[`{join(path, name)}`](#{join(path, name).replace('.', '').replace('[]', '')})" for name in optional
        )
        lines += [f"Sections: {names}", ""]
    return "\n".join(lines)


def _row(path: str, field: msgspec.structs.FieldInfo, note: str, late: bool) -> str:
    form = shape(field.type)
    mark = " *(later)*" if late or form.mark(Later) else " *(no effect)*" if form.mark(NoEffect) else ""
    variable = "" if "[]" in path else f"<br>`{variable_name(path)}`"
    cells = [f"`{path}`{variable}", _type(form), _default(field), _one_line(note) + mark]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _type(form: Shape) -> str:
    parser = form.mark(Parse)
    if parser is not None:
        return str(parser.shape)
    if get_origin(form.type) is tuple:
        item = shape(get_args(form.type)[0])
        if item.short is not None:
            return f"list of {_type(item.short)}, or maps"
        return "list of maps" if item.section else f"list of {_type(item)}"
    if get_origin(form.type) is Mapping:
        return "map"
    if get_origin(form.type) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(form.type))
    names = {bool: "true or false", str: "text", Secret: "text, secret"}
    return names.get(form.type) or number_rule(form).removeprefix("a ")


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "**required**"
    value = {} if field.default is msgspec.NODEFAULT else field.default
    return "none" if value is None else f"`{_written(value)}`"


def _written(value: Any) -> str:
    """A default as one writes it into YAML."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Address):
        return str(value)
    return '""' if value == "" else f"{value:g}" if isinstance(value, float) else str(value)


def _docstrings(kind: type[Section]) -> dict[str, str]:
    """The texts below the fields of a section."""
    tree = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(tree, ast.ClassDef)
    pairs = zip(tree.body, tree.body[1:], strict=False)
    return {
        field.target.id: str(text.value.value)
        for field, text in pairs
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }


def _one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    sys.stdout.write(render())
