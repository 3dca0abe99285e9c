"""Which kind of client calls, for the `client_type` label: the operator's rules over the User-Agent. Pure."""

import re
from collections.abc import Sequence
from typing import Final

UNKNOWN: Final = "unknown"
_REMEMBERED: Final = 1024


class ClientTypes:
    """`observability.metrics.client_type_rules`: the first pattern found in the User-Agent names the client."""

    def __init__(self, rules: Sequence[tuple[str, str]]) -> None:
        """`rules` are (pattern, client); patterns are searched anywhere, whatever the case."""
        self._rules = tuple((re.compile(pattern, re.IGNORECASE), client) for pattern, client in rules)
        self._seen: dict[str, str] = {}

    def of(self, user_agent: str) -> str:
        if not self._rules:
            return UNKNOWN
        known = self._seen.get(user_agent)
        if known is None:
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            known = next((client for rule, client in self._rules if rule.search(user_agent)), UNKNOWN)
            self._seen[user_agent] = known
        return known
