"""Finds, by bytes and without a parse, whether JSON may hold certain members that are not null.

Never misses one that is written plainly (providers write no escapes in member names); may see one where a string merely
equals the name. A longer text cannot fake it: a quote inside a string has a backslash in front.
"""

import re

import msgspec


class Telltales:
    """Names to look out for."""

    __slots__ = ("_search",)

    def __init__(self, *names: str) -> None:
        words = b"|".join(re.escape(msgspec.json.encode(name)[1:-1]) for name in names)
        # One pass over the bytes; re caches the compiled pattern, so that a relay per stream costs a look-up.
        self._search = re.compile(rb'"(?:' + words + rb')"(?!: ?null)').search

    def find(self, data: bytes) -> int:
        """Where the first of them stands; -1: none is there."""
        match = self._search(data)
        return match.start() if match else -1
