"""The registry of dialects: what clients may speak. Adding one is a module, and a line here."""

from collections.abc import Mapping
from typing import Final

from aisix_common.registry import index

from .base import Dialect
from .openai_chat import OpenAIChat

DIALECTS: Final[tuple[Dialect, ...]] = (OpenAIChat(),)
DIALECT: Final[Mapping[str, Dialect]] = index(DIALECTS, lambda dialect: dialect.name)
"""By name."""
