"""Fetches under way: a few at once for each provider, so that one that hangs holds up none of the others."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from aisix_common.tasks import TaskOwner

from .base import Away, Fetched, NoSuchSecret, Refused, Unresolved, Unusable
from .cache import Ticket
from .clients import Client

AT_ONCE: Final = 16
"""Fetches from one provider at once."""
OUTCOMES: Final = ("ok", "missing", "refused", "away", "unusable")

Outcome: TypeAlias = Fetched | Unresolved
Tell: TypeAlias = Callable[[str, str, float], None]
"""Gets manager, outcome (one of OUTCOMES) and seconds of every fetch."""

_NAMES: Final[tuple[tuple[type[Unresolved], str], ...]] = (
    (NoSuchSecret, "missing"),
    (Refused, "refused"),
    (Away, "away"),
    (Unusable, "unusable"),
)


class Fetching:
    """Starts fetches as their turn comes, each once. What comes out goes to `done`, in the loop."""

    def __init__(self, own: TaskOwner, done: Callable[[Ticket, Outcome], None], tell: Tell) -> None:
        self._own = own
        self._done = done
        self._tell = tell
        self._waiting: dict[Client, deque[tuple[Ticket, Sequence[str]]]] = {}
        self._running: Counter[Client] = Counter()

    @property
    def busy(self) -> bool:
        """Whether outcomes are still to come."""
        return bool(self._running)

    def start(self, client: Client, path: Sequence[str], ticket: Ticket) -> None:
        """Fetch a secret, now or when its provider has room. A client that is retired meanwhile is not asked."""
        self._waiting.setdefault(client, deque()).append((ticket, path))
        self._next(client)

    def _next(self, client: Client) -> None:
        waiting = self._waiting[client]
        if client.retired:
            waiting.clear()
        while waiting and self._running[client] < AT_ONCE:
            ticket, path = waiting.popleft()
            self._running[client] += 1
            self._own.spawn(self._fetch(client, path, ticket), name="secret fetch")
        if not self._running[client]:
            del self._waiting[client], self._running[client]

    async def _fetch(self, client: Client, path: Sequence[str], ticket: Ticket) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        outcome: Outcome
        try:
            outcome = await client.fetch(path)
        except Unresolved as error:
            outcome = error.with_traceback(None)
        self._tell(client.manager, _name(outcome), loop.time() - begun)
        self._running[client] -= 1
        self._next(client)
        self._done(ticket, outcome)


def _name(outcome: Outcome) -> str:
    if isinstance(outcome, Fetched):
        return "ok"
    return next((name for kind, name in _NAMES if isinstance(outcome, kind)), "away")
