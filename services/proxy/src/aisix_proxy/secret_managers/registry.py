"""The managers there are. Adding one: a Struct in `secret_providers`, a module here, and a line."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from .base import Make

MAKERS: Final[Mapping[str, Make]] = MappingProxyType({})
"""By the manager's name."""
