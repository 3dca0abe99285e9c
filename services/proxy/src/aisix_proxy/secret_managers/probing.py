"""Answers the admin's question whether this proxy reaches a secret manager (`aisix_common.secrets.probe`).

Questions and answers are rows of etcd, so the admin needs no way to a proxy. An answer holds no secret: only that one
could be read, or why not. Whatever goes wrong here serves no request worse.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol, TypeAlias, cast

from aisix_common.clock import Clock
from aisix_common.errors import StoreError
from aisix_common.logs import Logger
from aisix_common.secrets.probe import (
    LEASE_SECONDS,
    Probe,
    ProbeAnswer,
    answer_key,
    decode,
    encode,
    probe_key,
    probes_prefix,
)
from aisix_common.secrets.reference import BadReference, parse
from aisix_common.store.client import EtcdClient
from aisix_common.store.types import Changes, KeyValue, Listing, WatchEvent
from aisix_common.store.watch import list_and_watch
from aisix_common.tasks import TaskOwner

from .base import Unresolved
from .clients import Client

AT_ONCE: Final = 4
_MOST_ANSWERS: Final = 64
"""Answers that are being written at once, refusals included; more questions are nobody's who waits for an answer."""
_REMEMBERED: Final = 256
_SECONDS: Final = 9.0
"""For one answer: the admin waits for ten."""
_LOOKS: Final = 20
_LOOK_SECONDS: Final = 0.05
_UNKNOWN: Final = "this proxy does not know the provider (yet)"
_BUSY: Final = "this proxy is busy with other such questions: ask again"

Watch: TypeAlias = Callable[[EtcdClient, str], AsyncIterator[WatchEvent]]


class Known(Protocol):
    """Where clients come from."""

    def get(self, identity: str) -> Client | None:
        """The client of a provider."""
        ...


@dataclass(frozen=True, slots=True)
class Answerer:
    """Whose answers they are."""

    run_root: str
    instance: str
    hostname: str


class Probing:
    """`run` is a background task of one owner."""

    def __init__(
        self,
        client: EtcdClient,
        answerer: Answerer,
        clients: Known,
        clock: Clock,
        log: Logger,
        *,
        watch: Watch = list_and_watch,
    ) -> None:
        self._client = client
        self._answerer = answerer
        self._clients = clients
        self._clock = clock
        self._log = log
        self._watch = watch
        self._probing = 0
        self._seen: deque[str] = deque(maxlen=_REMEMBERED)

    async def run(self) -> None:
        """Answer every question that is asked, until cancelled."""
        async with TaskOwner() as own:
            events = self._watch(self._client, probes_prefix(self._answerer.run_root))
            async with aclosing(cast("Any", events)):
                async for event in events:
                    self._take(event, own)

    def _take(self, event: WatchEvent, own: TaskOwner) -> None:
        if isinstance(event, Listing):  # may hold what was asked long ago, by an admin that is gone
            rows = [row for row in event.rows if self._fresh(row)]
        elif isinstance(event, Changes):
            rows = [row for row in event.events if isinstance(row, KeyValue)]
        else:
            return
        for row in rows:
            probe = decode(row.value, Probe)
            # The token becomes part of the answer's key.
            if probe is None or row.key != probe_key(self._answerer.run_root, probe.token) or "/" in probe.token:
                continue
            if probe.token in self._seen or len(own) >= _MOST_ANSWERS:
                continue
            self._seen.append(probe.token)
            own.spawn(self._answer(probe), name="secret manager probe")

    def _fresh(self, row: KeyValue) -> bool:
        probe = decode(row.value, Probe)
        try:
            asked = datetime.fromisoformat(probe.asked_at) if probe is not None else None
        except ValueError:
            return False
        if asked is None or asked.tzinfo is None:
            return False
        return abs(self._clock.now() - asked) <= timedelta(seconds=LEASE_SECONDS)

    async def _answer(self, probe: Probe) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        reason = await self._tried(probe)
        who, milliseconds = self._answerer, round((loop.time() - begun) * 1000)
        answer = ProbeAnswer(who.instance, who.hostname, not reason, reason, milliseconds)
        try:
            lease = await self._client.grant(LEASE_SECONDS)
            await self._client.put(answer_key(who.run_root, probe.token, who.instance), encode(answer), lease=lease)
        except StoreError as error:
            self._log.warning("the answer whether a secret manager is reached could not be written", reason=str(error))

    async def _tried(self, probe: Probe) -> str:
        """Why the manager is not reached, or the secret not read; empty if all is well."""
        if self._probing >= AT_ONCE:
            return _BUSY
        self._probing += 1
        try:
            async with asyncio.timeout(_SECONDS):
                client = await self._found(probe.provider)
                if client is None:
                    return _UNKNOWN
                await client.probe()
                if probe.path is not None:
                    parse(f"$secret://{probe.provider}/{'/'.join(probe.path)}")  # its path leads nowhere else
                    await client.fetch(probe.path)
        except (Unresolved, BadReference) as error:
            return str(error) or "it is not reached"
        except TimeoutError:
            return f"the manager did not answer within {_SECONDS:g} seconds"
        finally:
            self._probing -= 1
        return ""

    async def _found(self, provider: str) -> Client | None:
        """The client of a provider; one that was just made may reach this proxy after the question."""
        for _ in range(_LOOKS):
            client = self._clients.get(provider)
            if client is not None:
                return client
            await asyncio.sleep(_LOOK_SECONDS)
        return None
