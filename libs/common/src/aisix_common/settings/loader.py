"""A path and an environment become `Settings`: file, environment, types, rules; all problems are found at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aisix_common.errors import ConfigurationError, Problem

from .notices import warnings_for
from .rules import check
from .schema import Settings
from .sources import Plain, locate, overrides, read_document
from .values import parse_log_level
from .walker import Walker, leaves

SUPERVISED: Final = "AISIX_SUPERVISED"
"""Set for services started by `aisix`, which has shown the warnings already."""

_IDLE_ADMIN: Final = ("admin.addr", "admin.admin_keys")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that can work, and what an operator should hear about it at start."""

    settings: Settings
    warnings: tuple[str, ...] = ()


def load(path: str | Path, environ: Mapping[str, str]) -> Loaded:
    """The configuration of `path` (yaml, yml, json or toml) overridden by `environ`.

    Raises ConfigurationError with every problem found.
    """
    return build(read_document(locate(Path(path))), environ)


def build(document: Any, environ: Mapping[str, str]) -> Loaded:
    """The configuration of a parsed `document` overridden by `environ`. Pure. Raises ConfigurationError."""
    problems: list[Problem] = []
    overridden = overrides(environ, (path for path, _ in leaves(Settings)), problems)
    walker = Walker(overridden, problems)
    settings = walker.section(Settings, None if isinstance(document, Plain) else document, "")
    assert isinstance(settings, Settings)
    if not settings.admin_binds:
        # A listener that is never bound needs no address that works (and no key).
        problems[:] = [problem for problem in problems if not problem.path.startswith(_IDLE_ADMIN)]
    # A rule looks at stand-ins where a value was wrong: what it says about those would only confuse.
    known = [problem.path for problem in problems]
    problems += [problem for problem in check(settings, environ) if not _covered(problem.path, known)]
    if problems:
        raise ConfigurationError(problems)
    settings, heard = _with_rust_log(settings, environ)
    warnings = (*warnings_for(settings, overridden), *heard)
    return Loaded(settings, () if environ.get(SUPERVISED) else warnings)


def report(error: ConfigurationError) -> str:
    """What is printed on standard error when a configuration does not load; without the final newline."""
    head = "Error: config load failed: failed to load configuration:"
    if len(error.problems) == 1:
        return f"{head} {error.problems[0]}"
    return "\n".join([f"{head} {len(error.problems)} problems", *(f"  {problem}" for problem in error.problems)])


def _covered(path: str, known: list[str]) -> bool:
    """Whether a problem at `path` is about something that already has one, or about what holds it."""
    return any(path == other or path.startswith((f"{other}.", f"{other}[")) for other in known if other) or any(
        other.startswith((f"{path}.", f"{path}[")) for other in known
    )


def _with_rust_log(settings: Settings, environ: Mapping[str, str]) -> tuple[Settings, tuple[str, ...]]:
    """`RUST_LOG` overrides the log level, as operators of the Rust gateway know it; nonsense in it is no reason to
    refuse service."""
    text = environ.get("RUST_LOG", "")
    if not text.strip():
        return settings, ()
    try:
        level = parse_log_level(text)
    except ValueError as error:
        return settings, (f"RUST_LOG is ignored: it {error}",)
    from msgspec.structs import replace

    return replace(settings, observability=replace(settings.observability, log_level=level)), ()
