"""The grammar of secret references (design 7; customer-documents 6.4). Pure.

    $secret://<manager>/<provider>/<path>[/<key>]     a secret in a manager, by the name of its provider
    $secret://<manager>/<path>[/<key>]                the same, where one provider of that manager exists (or one
                                                      is called `default`)
    $env://NAME[/<json key>]                          a variable of the proxy's environment

The scheme is case-insensitive, everything behind it is not. What of the path is the key is the manager's to say.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

from aisix_common.secret import is_reference

MANAGERS: Final = ("vault", "aws", "azure", "gcp", "kubernetes")
LONGEST: Final = 1024
_DEFAULT: Final = "default"
_LEAST: Final[Mapping[str, tuple[int, str]]] = MappingProxyType(
    {"vault": (2, "<path>/<key>"), "kubernetes": (3, "<namespace>/<name>/<key>")}
)
"""Segments that must follow the provider, where one is not enough."""
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_SEGMENT: Final = re.compile(r"[!-~]+")
_FORBIDDEN: Final = frozenset("?#%\\")
"""What would mean something else in a URL."""


class BadReference(ValueError):
    """A text that looks like a reference and is none, or leads to no provider. The message may be shown."""


@dataclass(frozen=True, slots=True)
class EnvReference:
    """A variable of the environment, or one member of the JSON object that it holds."""

    name: str
    key: str | None = None

    @property
    def text(self) -> str:
        """The canonical spelling."""
        return f"$env://{self.name}" + (f"/{self.key}" if self.key is not None else "")


@dataclass(frozen=True, slots=True)
class SecretReference:
    """What follows the manager, in segments: the provider is still among them, or left out."""

    manager: str
    segments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Placed:
    """A secret in a manager, with its provider known."""

    manager: str
    provider: str
    path: tuple[str, ...]

    @property
    def text(self) -> str:
        """The long form, which is what is stored."""
        return f"$secret://{self.manager}/{self.provider}/{'/'.join(self.path)}"

    @property
    def identity(self) -> str:
        """Of its provider: `<manager>/<name>`."""
        return f"{self.manager}/{self.provider}"


Reference: TypeAlias = EnvReference | SecretReference


def parse(text: str) -> Reference:
    """The reference that `text` (which `is_reference`) spells. Raises BadReference."""
    scheme, _, rest = text.partition("://")
    if not is_reference(text) or len(text) > LONGEST:
        raise BadReference(f"is no secret reference of at most {LONGEST} characters")
    if scheme.lower() == "$env":
        return _variable(rest)
    manager, *segments = rest.split("/")
    if not manager:
        raise BadReference("error format: no secret manager (write $secret://<manager>/<provider>/<path>)")
    if manager not in MANAGERS:
        raise BadReference(f"names no secret manager that is known here: they are {', '.join(MANAGERS)}")
    if not segments or not segments[0]:
        raise BadReference("error format: no secret conf id (write $secret://<manager>/<provider>/<path>)")
    if not all(_plain(segment) for segment in segments):
        raise BadReference(
            "error format: no secret key id, or a path with empty segments, `.`, `..`, spaces or one of ? # % \\"
        )
    return SecretReference(manager, tuple(segments))


def _variable(rest: str) -> EnvReference:
    name, slash, key = rest.partition("/")
    if _VARIABLE.fullmatch(name) is None:
        raise BadReference("error format: $env:// needs the name of a variable: letters, digits and underscores")
    if slash and not key:
        raise BadReference("error format: no key behind the slash (write $env://NAME or $env://NAME/<json key>)")
    return EnvReference(name, key or None)


def place(reference: SecretReference, providers: Collection[str]) -> Placed:
    """The reference with its provider; `providers` are the names of all that its manager has. Raises BadReference.

    The first segment is the provider's name if there is such a provider. Else the reference is in the short form, which
    needs one provider alone, or one called `default`.
    """
    placed = _placed(reference, providers)
    least, needed = _LEAST.get(placed.manager, (1, "<path>"))
    if len(placed.path) < least:
        raise BadReference(f"error format: no secret key id (behind the provider of {placed.manager}, write {needed})")
    return placed


def _placed(reference: SecretReference, providers: Collection[str]) -> Placed:
    first, *rest = reference.segments
    if first in providers:
        return Placed(reference.manager, first, tuple(rest))
    if _DEFAULT in providers:
        return Placed(reference.manager, _DEFAULT, reference.segments)
    if len(providers) == 1:
        return Placed(reference.manager, next(iter(providers)), reference.segments)
    if not providers:
        raise BadReference(f"no secret conf: there is no {reference.manager} provider; make one in secret_providers")
    raise BadReference(
        f"no secret conf: its first segment is no {reference.manager} provider, and there are {len(providers)}: "
        "name one of them first ($secret://<manager>/<provider>/...)"
    )


def _plain(segment: str) -> bool:
    return _SEGMENT.fullmatch(segment) is not None and segment not in (".", "..") and not _FORBIDDEN & set(segment)
