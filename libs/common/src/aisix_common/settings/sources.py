"""Where raw settings come from: one file, and the environment. Gives trees and texts; types are the walker's business.

A YAML scalar without quotes stays `Plain`, so that `admin_keys: [0123]` and `prefix: 1e5` keep their text when the
field wants text, and become numbers only where the field wants a number.
"""

import difflib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NoReturn

from aisix_common import yaml12
from aisix_common.errors import ConfigurationError, Problem

PREFIX: Final = "AISIX_"
_MOST_BYTES: Final = 4 * 1024 * 1024
_SUFFIXES: Final = (".yaml", ".yml", ".toml", ".json")

_OLDER: Final = MappingProxyType({"AISIX_DP_BUDGET_STALE_MAX_SECONDS": "managed.budget_stale_max_secs"})
"""Variables that other gateways spell their own way (control-plane 8 no. 1), and what they set."""


@dataclass(frozen=True, slots=True)
class Plain:
    """An unquoted YAML scalar, as it was written."""

    text: str


@dataclass(frozen=True, slots=True)
class Override:
    """What the environment says about one field."""

    variable: str
    text: str


def locate(path: Path) -> Path:
    """`path` itself, or with the first known extension that exists when it has none and is not there."""
    try:
        if path.suffix or path.exists():
            return path
        return next((found for suffix in _SUFFIXES if (found := path.with_suffix(suffix)).is_file()), path)
    except (OSError, ValueError):  # too long, a NUL in it: reading it will say so
        return path


def read_document(path: Path) -> Any:
    """The tree in `path`, by its extension. Raises ConfigurationError; no message quotes the file."""
    try:
        if path.suffix.lower() not in _SUFFIXES and path.exists():
            raise _broken("the file name must end in .yaml, .yml, .json or .toml", path)
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        detail = error.strerror if isinstance(error, OSError) and error.strerror else "not a file name"
        raise _broken(f"cannot be read: {detail}; give an existing file with --config", path) from None
    if len(data) > _MOST_BYTES:
        raise _broken(f"is longer than {_MOST_BYTES // 1024 // 1024} MiB", path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _broken("is not UTF-8", path) from None
    try:
        return parse_document(text, path.suffix.lower())
    except ConfigurationError as error:
        first = error.problems[0]
        where = f"{path}, {first.path}" if first.path else str(path)
        raise ConfigurationError([Problem("build", f"{where}: {first.reason}")]) from None


def parse_document(text: str, suffix: str) -> Any:
    """The tree in `text`, written in the language of `suffix`. Raises ConfigurationError."""
    if suffix == ".json":
        return _json(text)
    if suffix == ".toml":
        return _toml(text)
    return yaml12.load(text, Plain)


def _json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_each_once, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise ConfigurationError([Problem(f"line {error.lineno}, column {error.colno}", error.msg)]) from None
    except ValueError:
        raise ConfigurationError([Problem("", "holds a number that is too long")]) from None
    except RecursionError:
        raise ConfigurationError([Problem("", "is nested too deeply")]) from None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ConfigurationError([Problem("", f"key {twice!r} is there twice in one object")])
    return result


def _no_constant(name: str) -> NoReturn:
    raise ConfigurationError([Problem("", f"{name} is not JSON")])


def _toml(text: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # Its text quotes single characters and key names only.
        raise ConfigurationError([Problem("", str(error))]) from None
    except (ValueError, RecursionError):
        raise ConfigurationError([Problem("", "is not valid TOML")]) from None


def _broken(reason: str, path: Path) -> ConfigurationError:
    return ConfigurationError([Problem("build", f"{path}: {reason}")])


def overrides(environ: Mapping[str, str], fields: Iterable[str], problems: list[Problem]) -> dict[str, Override]:
    """Which of `fields` (dotted paths) the environment sets; what cannot be meant goes to `problems`.

    `AISIX_PROXY__ADDR` sets `proxy.addr`, in any case. A name with `__` can only be meant for us, so an unknown one is
    a problem. Names without it are ours only when they name a field of the root: Kubernetes sets `AISIX_PORT` for a
    Service called aisix, and shells hold an `AISIX_ADMIN_KEY`.
    """
    known = set(fields)
    result: dict[str, Override] = {}
    for variable, text in sorted(environ.items()):
        if not variable.upper().startswith(PREFIX):
            continue
        path = _OLDER.get(variable.upper()) or variable[len(PREFIX) :].lower().replace("__", ".")
        if path in known:
            other = result.get(path)
            if other is not None and other.text != text:
                problems.append(Problem(variable, f"sets {path} to something else than {other.variable} does"))
            result[path] = Override(variable, text)
        elif "." in path:
            problems.append(Problem(variable, f"names no setting{_nearest_variable(path, known)}"))
    return result


def variable_name(path: str) -> str:
    """The environment variable that sets the field at the dotted `path`."""
    return PREFIX + path.replace(".", "__").upper()


def _nearest_variable(path: str, known: set[str]) -> str:
    below = sorted(field for field in known if field.startswith(path + "."))
    if below:
        return f"; {path} is a section, set a field of it such as {variable_name(below[0])}"
    near = difflib.get_close_matches(path, known, n=1, cutoff=0)
    return f"; the nearest is {variable_name(near[0])}" if near else ""
