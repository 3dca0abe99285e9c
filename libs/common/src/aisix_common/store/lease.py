"""A lease that is kept while its owner runs: granted, renewed, granted anew after a loss, revoked at the end."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

from aisix_common.errors import StoreError

from .backoff import Backoff
from .client import EtcdClient

_GOODBYE_SECONDS: Final = 2.0


class LeaseKeeper:
    """Keeps one lease of `ttl` seconds (at least 2).

    `on_grant(lease)` is awaited with every new lease, to write the rows that hang on it: at the start, and again after
    etcd lost the lease (an outage longer than `ttl`, a restore). It may be called twice for one lease when it fails
    with a StoreError, so its writes must bear repeating.
    """

    def __init__(self, client: EtcdClient, ttl: int, on_grant: Callable[[int], Awaitable[None]]) -> None:
        if ttl < 2:
            raise ValueError("a lease below 2 seconds cannot be kept reliably")
        self._client = client
        self._ttl = ttl
        self._on_grant = on_grant
        self._announced = False
        self.lease = 0
        """The lease now; 0 while there is none."""
        self.trouble = ""
        """Why the last try failed; empty while all is well."""

    async def run(self) -> NoReturn:
        """Keep the lease until cancelled, then revoke it. StoreErrors end in `trouble` and another try."""
        backoff = Backoff(0.1, min(2.0, self._ttl / 6))
        try:
            while True:
                try:
                    await self._step()
                    backoff.reset()
                    self.trouble = ""
                    delay = self._ttl / 3
                except StoreError as error:
                    self.trouble = str(error)
                    delay = backoff.delay()
                await asyncio.sleep(delay)
        finally:
            await self._revoke()

    async def _step(self) -> None:
        """Renew the lease, or get one; afterwards its rows are written."""
        if self.lease and await self._client.keep_alive(self.lease) <= 0:
            self.lease = 0
        if not self.lease:
            self._announced = False
            self.lease = await self._client.grant(self._ttl)
        if self._announced:
            return
        await self._on_grant(self.lease)
        self._announced = True

    async def _revoke(self) -> None:
        lease, self.lease = self.lease, 0
        if not lease:
            return
        try:
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await self._client.revoke(lease)
        except (StoreError, TimeoutError):
            pass  # it runs out by itself
