"""The registry of provider adapters: one codec per wire. Adding one is a module, and a line here."""

from collections.abc import Mapping
from typing import Final

from aisix_common.registry import index

from .base import Adapter
from .openai import OpenAI

ADAPTERS: Final[tuple[Adapter, ...]] = (OpenAI(),)
ADAPTER: Final[Mapping[str, Adapter]] = index(ADAPTERS, lambda adapter: adapter.wire)
"""By wire."""
