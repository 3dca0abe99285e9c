"""Asks the proxies, through etcd, whether they reach a secret manager (`aisix_common.secrets.probe` has the rows).

Nothing is asked of the manager here: only the proxies have the way to it, and the right to read there.
"""

import asyncio
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from aisix_common.clock import Clock, rfc3339
from aisix_common.errors import StoreError
from aisix_common.secrets.probe import (
    LEASE_SECONDS,
    Probe,
    ProbeAnswer,
    answers_prefix,
    decode,
    encode,
    probe_key,
)
from aisix_common.store.types import RangeResult

from .fleet import Instance
from .rows import asking

PATIENCE: Final = 10.0
"""Seconds until a proxy that has not answered is given up. A call may take twice as long (`rows.DEADLINE`)."""
_LOOK: Final = 0.1
"""Seconds between two looks for answers."""
_MOST: Final = 1000
"""Answers that are looked at."""

NO_PROXY: Final = "no proxy is there that could be asked: start one, or look at GET /admin/v1/instances"
_SILENT: Final = "did not answer in time"
_CUT_OFF: Final = "does not hear from etcd, so it cannot be asked"


class Leasing(Protocol):
    """The part of the etcd client that is used here."""

    async def grant(self, ttl: int) -> int: ...

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int: ...

    async def range(self, prefix: str, *, limit: int = 0) -> RangeResult: ...

    async def revoke(self, lease: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the proxies say of one provider."""

    provider: str
    """`<manager>/<name>`."""
    answers: tuple[ProbeAnswer, ...]
    """One of each proxy, also of those that said nothing."""
    silent: frozenset[str] = frozenset()
    """The instances that said nothing: what stands in their answer is ours."""

    @property
    def ok(self) -> bool:
        """Whether every proxy reaches it, and there is one."""
        return bool(self.answers) and all(answer.ok for answer in self.answers)

    def shown(self) -> dict[str, Any]:
        """As the API tells it."""
        told: dict[str, Any] = {"provider": self.provider, "ok": self.ok}
        if not self.answers:
            told["reason"] = NO_PROXY
        return {**told, "instances": [self._one(answer) for answer in self.answers]}

    def _one(self, answer: ProbeAnswer) -> Mapping[str, Any]:
        told: dict[str, Any] = {"instance": answer.instance, "hostname": answer.hostname, "ok": answer.ok}
        if not answer.ok:
            told["reason"] = answer.reason
        return told if answer.instance in self.silent else {**told, "ms": answer.ms}


class Probes:
    """Puts the question and collects the answers."""

    def __init__(
        self,
        client: Leasing,
        run_root: str,
        clock: Clock,
        *,
        patience: float = PATIENCE,
        new_token: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        """`patience`: seconds that proxies have to answer."""
        self._client = client
        self._root = run_root
        self._clock = clock
        self._patience = patience
        self._new_token = new_token

    async def ask(self, provider: str, path: Sequence[str] | None, proxies: Sequence[Instance]) -> Outcome:
        """What each of `proxies` says of `provider`, and of the secret at `path` in it. Proxies that came meanwhile may
        answer, too. Without any, nothing is asked. Raises StoreAway."""
        wanted = {one.id for one in proxies if one.row.connected}
        if not wanted:
            return self._outcome(provider, proxies, {})
        token = self._new_token()
        question = Probe(token, provider, rfc3339(self._clock.now()), None if path is None else tuple(path))
        async with asking():
            lease = await self._client.grant(LEASE_SECONDS)
            try:
                await self._client.put(probe_key(self._root, token), encode(question), lease=lease)
                answers = await self._answers(token, wanted)
            finally:
                with suppress(StoreError):  # else it ends by itself
                    await self._client.revoke(lease)
        return self._outcome(provider, proxies, answers)

    async def _answers(self, token: str, wanted: Collection[str]) -> Mapping[str, ProbeAnswer]:
        """By instance, as soon as all of `wanted` answered, or those that did when time is over."""
        prefix = answers_prefix(self._root, token)
        found: dict[str, ProbeAnswer] = {}
        loop = asyncio.get_running_loop()
        end = loop.time() + self._patience
        while True:
            rows = (await self._client.range(prefix, limit=_MOST)).rows
            for row in rows:
                answer = decode(row.value, ProbeAnswer)
                if answer is not None:
                    found[row.key.removeprefix(prefix)] = answer
            if found.keys() >= set(wanted) or loop.time() >= end:
                return found
            await asyncio.sleep(_LOOK)

    def _outcome(self, provider: str, proxies: Sequence[Instance], answers: Mapping[str, ProbeAnswer]) -> Outcome:
        known = {one.id: one for one in proxies}
        silent = [one for one in proxies if one.id not in answers]
        said = [
            # Under the name it has among the instances, whatever the row says.
            ProbeAnswer(
                id, known[id].row.hostname if id in known else answer.hostname, answer.ok, answer.reason, answer.ms
            )
            for id, answer in answers.items()
        ]
        said += [
            ProbeAnswer(one.id, one.row.hostname, ok=False, reason=_SILENT if one.row.connected else _CUT_OFF)
            for one in silent
        ]
        in_order = sorted(said, key=lambda answer: (answer.hostname, answer.instance))
        return Outcome(provider, tuple(in_order), frozenset(one.id for one in silent))


def proxies_of(instances: Sequence[Instance]) -> list[Instance]:
    """The proxies among the live instances that can be expected to answer."""
    return [one for one in instances if one.row.service in ("", "proxy") and not one.row.stopping]
