"""Snapshots with references in, snapshots with secrets out (design 7). Runs beside the requests: nothing here is asked
for one of them, and without references a snapshot passes through as it is.

`base` and `providers` take what the sources have read; `run` fetches what is due, and has rows served anew whose
secrets changed. Whether a secret may be used is `cache`'s to say, whether it fits its row `resolution`'s.
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

from aisix_common.clock import Clock
from aisix_common.logs import Logger
from aisix_common.resources import SECRET_PROVIDERS, Kind, Rejected, SecretProvider
from aisix_common.resources.concealed import references_in
from aisix_common.secret import Secret
from aisix_common.secrets.environment import NotReadable
from aisix_common.secrets.reference import BadReference, EnvReference, parse, place
from aisix_common.snapshot import Entry, Overlay, Snapshot
from aisix_common.tasks import TaskOwner

from .base import Fetched
from .cache import Cache, Known, State, Ticket, Timing
from .clients import Client, Clients, Making
from .fetching import Fetching, Outcome, Tell
from .missing import NOTHING, UNREAD, Missing, missing_of
from .needs import Needs, Row
from .report import News, Report, report
from .resolution import resolve, unresolved

COLLECT_SECONDS: Final = 0.05
"""For how long outcomes are collected before rows are served anew."""
START_SECONDS: Final = 5.0
"""How long a start waits for the providers, and for the first fetches, at most."""
_AT_ONCE: Final = 32
"""Rows that are served anew before the loop gets its turn: a few milliseconds."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a resolver works with."""

    timing: Timing
    making: Making
    configured: Sequence[SecretProvider]
    """Of config.yaml: they are the operator's word, so they come before rows of the same manager and name."""
    clock: Clock
    random: Callable[[], float]
    log: Logger
    tell: Tell
    one_life: bool = True
    """A row that was deleted and made again is another row. Not so in a file, where every reading makes all anew."""


class Resolver:
    """See the module. Everything on the event loop."""

    def __init__(
        self, prefix: str, setup: Setup, publish: Callable[[Snapshot], None], on_ready: Callable[[], None]
    ) -> None:
        """`publish` gets every snapshot that is to be served. `on_ready` is called once: when one was, and the first
        round of fetches is over or took too long."""
        self.clients = Clients(setup.making, setup.log)
        self._setup = setup
        self._publish = publish
        self._on_ready = on_ready
        self._overlay = Overlay(prefix)
        self._cache = Cache(setup.timing, setup.random)
        self._base: Snapshot | None = None
        self._served: Snapshot | None = None
        self._needs = Needs(self._cache.forget)
        self._again: dict[Row, None] = {}
        """Rows that are to be served anew, in the order in which that turned out."""
        self._again_at = math.inf
        self._start_ends = math.inf
        self._started = False
        """A start waits for nothing more."""
        self._ready = False
        self._providers_known = False
        self._consumer_failed = False
        self._missing = NOTHING
        self._news = News(setup.log)
        self._wake = asyncio.Event()
        self.clients.update({each.identity: each for each in setup.configured})

    def base(self, snapshot: Snapshot) -> None:
        """Resolve and publish what the resources' source has read. What `publish` raises comes through."""
        if self._base is None:
            self._start_ends = _now() + START_SECONDS
        self._base = snapshot
        self._apply({})
        if self._needs:
            self._needs.keep(self._overlay.holds, snapshot.touched)
        self._wake.set()

    def providers(self, snapshot: Snapshot | None) -> None:
        """Take over the providers of another snapshot; None: there is no source of them."""
        table = {} if snapshot is None else snapshot.table(SECRET_PROVIDERS).by_name
        self._take_providers({identity: entry.value for identity, entry in table.items()}, missing_of(snapshot))

    async def run(self) -> None:
        """Fetch, and serve anew, until cancelled. What `publish` raises is logged here."""
        async with TaskOwner() as own:
            fetching = Fetching(own, self._done, self._setup.tell)
            while True:
                now = await self._next()
                for client in self.clients.idle():
                    own.spawn(client.aclose(), name="secret manager client")
                tickets, over = self._cache.turn(now)
                for ticket in tickets:
                    self._start(fetching, ticket)
                self._ran_out(over, now)
                if now >= self._start_ends:
                    self._end_start()
                if self._again and (now >= self._again_at or not fetching.busy):
                    self._some_again()
                if now >= self._news.due:
                    self._news.tell()
                self._look_ready()

    async def aclose(self) -> None:
        """Close the clients. After `run` has ended."""
        await self.clients.aclose()

    def report(self) -> Report:
        """What is known of all references now."""
        return report(self._cache, _now(), self._setup.clock.now())

    def counts(self) -> Mapping[State, int]:
        """How many references are in each state."""
        return self._cache.counts()

    async def _next(self) -> float:
        """Wait until something is to be done, and say when that is."""
        at = min(self._cache.next_turn(), self._again_at, self._start_ends, self._news.due)
        try:
            async with asyncio.timeout_at(None if at == math.inf else at):
                await self._wake.wait()
        except TimeoutError:
            return max(_now(), at)  # timers may be a little early: without this it would be waited for once more
        self._wake.clear()
        return _now()

    def _start(self, fetching: Fetching, ticket: Ticket) -> None:
        known = self._cache.current(ticket)
        client: Client | None = None if known is None else self.clients.get(known.provider)
        if client is not None:  # else the provider is gone, and with it the rows' use of this reference
            fetching.start(client, path_of(ticket.text), ticket)

    def _done(self, ticket: Ticket, outcome: Outcome) -> None:
        now, known = _now(), self._cache.current(ticket)
        if known is None:
            return
        before = known.state
        if isinstance(outcome, Fetched):
            changed = self._cache.had(ticket, outcome, now)
        else:
            changed = self._cache.failed(ticket, outcome, now)
        self._news.note(ticket.text, known, before, now)
        if changed:
            self._serve_anew(self._needs.users([ticket.text]), now)
        self._wake.set()

    def _ran_out(self, over: Mapping[str, State], now: float) -> None:
        """Time is up for these references, with the state that each of them was in."""
        for text, before in over.items():
            if (known := self._cache.get(text)) is not None:
                self._news.note(text, known, before, now)
        self._serve_anew(self._needs.users(over), now)

    def _end_start(self) -> None:
        """A start has waited for long enough."""
        self._started, self._start_ends = True, math.inf
        if not self._providers_known:  # whatever keeps them from being read, those of config.yaml are there
            self._take_providers({}, UNREAD)

    def _take_providers(self, providers: dict[str, SecretProvider], missing: Missing) -> None:
        providers.update({each.identity: each for each in self._setup.configured})
        turnover, now = self.clients.update(providers), _now()
        for identity, same_place in turnover.renewed.items():
            self._cache.renew(identity, now, keep=same_place)
        if turnover.names_changed or not self._providers_known or missing != self._missing:
            self._serve_anew(self._needs, now)
        self._providers_known, self._missing = True, missing
        self._wake.set()

    def _serve_anew(self, rows: Iterable[Row], now: float) -> None:
        self._again.update(dict.fromkeys(rows))
        if self._again:
            self._again_at = min(self._again_at, now + COLLECT_SECONDS)

    def _some_again(self) -> None:
        """Some of the rows that wait for it; the others have their turn right after."""
        if self._base is None:
            self._again.clear()
        some: dict[str, set[str]] = {}
        for kind, id in list(islice(self._again, _AT_ONCE)):
            del self._again[kind, id]
            some.setdefault(kind, set()).add(id)
        self._again_at = 0.0 if self._again else math.inf
        try:
            self._apply({kind: frozenset(ids) for kind, ids in some.items()})
        except Exception:  # as the sources do: a mistake of the consumer must not end this task
            self._setup.log.exception("a new configuration could not be put to use: the one before is served on")

    def _apply(self, again: Mapping[str, frozenset[str]]) -> None:
        if self._base is None:
            return
        derived = self._overlay.apply(self._base, self._replace, again, self._setup.clock.now())
        before, self._served = self._served, derived
        if again and before is not None and _same(before, derived) and not self._consumer_failed:
            return
        try:
            self._publish(replace(derived, touched=None) if self._consumer_failed else derived)
        except Exception:
            self._consumer_failed = True
            raise
        self._consumer_failed = False
        self._look_ready()

    def _look_ready(self) -> None:
        if self._ready or self._served is None or self._consumer_failed:
            return
        waits = self._needs and (not self._providers_known or self._again or self._cache.counts()["pending"])
        if self._started or not waits:
            self._ready = True
            self._on_ready()

    def _replace(self, kind: Kind[Any], entry: Entry[Any]) -> Any | Rejected | None:
        """What is served for a row with references: what `Overlay` asks."""
        now = _now()
        references = list(references_in(kind, entry.value))
        texts: dict[str, str] = {}
        wrong: Rejected | None = None
        waits: Rejected | None = None
        for at, text in references:
            texts[text], known = self._look_up(text, now)
            if known.state == "failed":
                wrong = wrong or unresolved(at, known.reason)
            elif known.value is None:
                waits = waits or unresolved(at, known.reason)
        self._needs.put((kind.name, entry.id), frozenset(texts.values()))
        if wrong is not None:
            return wrong
        if waits is not None:
            return self._earlier(kind, entry) or waits
        return resolve(kind, entry.value, references, lambda text: self._value(texts[text])) if texts else None

    def _look_up(self, text: str, now: float) -> tuple[str, Known]:
        """What the cache has for a reference, and under which name."""
        try:
            reference = parse(text)
            if isinstance(reference, EnvReference):
                making = self._setup.making
                return reference.text, self._cache.settle(
                    reference.text, making.environment.read(reference, making.context.environ), now
                )
            if not self._providers_known:
                return text, self._cache.settle(text, None, now)
            known = self.clients.names.get(reference.manager, frozenset())
            self._missing.check(reference, known)
            placed = place(reference, known)
        except (BadReference, NotReadable) as error:
            hint = self._missing.hint if isinstance(error, BadReference) else ""
            return text, self._cache.settle(text, f"{error}{hint}", now)
        return placed.text, self._cache.want(placed.text, placed.identity, now)

    def _value(self, text: str) -> Secret:
        known = self._cache.get(text)
        assert known is not None and known.value is not None  # whoever asks has looked at its state
        return known.value

    def _earlier(self, kind: Kind[Any], entry: Entry[Any]) -> Any | None:
        """What is served for a row until now: good for as long as a fetch may take, but for a row that is switched off
        with the same change: that must not wait."""
        if getattr(entry.value, "disabled", False) or not getattr(entry.value, "enabled", True):
            return None
        served = None if self._served is None else self._served.tables[kind.name].by_id.get(entry.id)
        if served is None or (self._setup.one_life and served.create_revision != entry.create_revision):
            return None
        return served.value


def _same(one: Snapshot, other: Snapshot) -> bool:
    """Whether nothing is served or said otherwise, though rows were looked at again."""
    return one is other or (other.touched == {} and one.rejected is other.rejected)


def path_of(text: str) -> tuple[str, ...]:
    """The path of a reference in its long form, without manager and provider."""
    return tuple(text.split("/")[4:])


def _now() -> float:
    return asyncio.get_running_loop().time()
