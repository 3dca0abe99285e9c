"""A path and an environment become `Settings`: file, environment, types, rules; all problems are found at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .schema import Settings


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that can work, and what an operator should hear about it at start."""

    settings: Settings
    warnings: tuple[str, ...] = ()


def load(path: str | Path, environ: Mapping[str, str]) -> Loaded:
    """The configuration of `path` (yaml, yml, json or toml) overridden by `environ`.

    Raises ConfigurationError with every problem found.
    """
    raise NotImplementedError


def refuse_unbuilt(settings: Settings) -> None:
    """Raise ConfigurationError when `settings` ask for a way to run that this version does not have."""
