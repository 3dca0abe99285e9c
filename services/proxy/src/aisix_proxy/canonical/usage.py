"""Tokens used by one answer, in the terms every provider can be told in."""

from typing import Final

import msgspec


class Usage(msgspec.Struct, frozen=True):
    """Token counts. `estimated` is set when the provider sent none and we counted ourselves."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0
    """Part of `prompt_tokens` that the provider served from its cache."""
    reasoning_tokens: int = 0
    """Part of `completion_tokens` spent on thinking."""
    cache_creation_tokens: int = 0
    cache_read_tokens: int = 0
    estimated: bool = False


NO_USAGE: Final = Usage()
