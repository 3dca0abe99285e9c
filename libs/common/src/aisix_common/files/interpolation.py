"""`${NAME}` in the texts of a resources file: the values of environment variables, put in after YAML has been read.

Pure: the environment is an argument. The result is always text, however much it looks like a number.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from aisix_common.resources.flaw import LONGEST_NAME, Path

OWN_PREFIX: Final = "AISIX_"
"""Variables that are settings of the gateway itself: a file must not read them."""

_DOLLAR: Final = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>[^{}]*)(?P<end>\}?))")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class BadText(Exception):
    """A text whose variables cannot be put in: where, and which rule it breaks."""

    def __init__(self, at: Path, reason: str) -> None:
        super().__init__(reason)
        self.at = at
        self.reason = reason


def interpolated(value: Any, environ: Mapping[str, str], at: Path = ()) -> Any:
    """A copy of `value` (JSON types) with the variables of every text in it put in; keys stay as they are.

    Raises BadText with the first text that is wrong.
    """
    if isinstance(value, str):
        return value if "$" not in value else _DOLLAR.sub(lambda match: _meant(match, environ, at), value)
    if isinstance(value, dict):
        return {name: interpolated(item, environ, (*at, name)) for name, item in value.items()}
    if isinstance(value, list):
        return [interpolated(item, environ, (*at, place)) for place, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise BadText(at, "must be a finite number")  # JSON, which rows are, has no others
    return value


def escaped(text: str) -> str:
    """`text` as it is written into a file so that it reads as itself."""
    return text.replace("$", "$$")


def variable(name: str, environ: Mapping[str, str], at: Path, shown: str) -> str:
    """The value of an environment variable, which `shown` stands for in messages. Raises BadText without one."""
    if not _NAME.fullmatch(name):
        raise BadText(at, "must name an environment variable: letters, digits and underscores")
    if name.upper().startswith(OWN_PREFIX):
        raise BadText(at, f"must not name a variable that begins with {OWN_PREFIX}: those are the gateway's settings")
    value = environ.get(name, "")
    if not value:
        raise BadText(at, f"{shown} is not set, or empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadText(at, f"{shown} is not valid UTF-8") from None
    return value


def _meant(match: "re.Match[str]", environ: Mapping[str, str], at: Path) -> str:
    if match["dollar"]:
        return "$"
    if not match["end"]:
        raise BadText(at, "has a `${` without its `}`; write `$$` for a dollar sign")
    if not match["name"]:
        raise BadText(at, "has empty braces: name an environment variable in them, or write `$$` for a dollar sign")
    return variable(match["name"], environ, at, f"environment variable `{match['name'][:LONGEST_NAME]}`")
