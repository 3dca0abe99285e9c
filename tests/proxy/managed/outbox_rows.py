"""The outbox of a test: what lies there, and what takes it away."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aisix_common.managed.outbox import batch_name, outbox_root, unpacked
from aisix_common.store.client import EtcdClient, EtcdOptions

from tests.proxy.managed.events import numbers


@asynccontextmanager
async def outbox_at(endpoint: str, run_root: str, *, timeout: float = 5.0) -> AsyncIterator["OutboxRows"]:
    """The outbox under `run_root` of the etcd at `endpoint`."""
    async with EtcdClient(EtcdOptions(endpoints=(endpoint,), request_timeout=timeout)) as client:
        yield OutboxRows(client, run_root)


class OutboxRows:
    """Reads and empties it."""

    def __init__(self, client: EtcdClient, run_root: str) -> None:
        self.client = client
        self.run_root = run_root

    async def batches(self) -> list[tuple[str, int, list[int]]]:
        """Stream, number and the events' numbers of each batch, in the order of their keys."""
        found = []
        for row in (await self.client.range(outbox_root(self.run_root))).rows:
            name = batch_name(self.run_root, row.key)
            assert name is not None
            assert row.lease == 0
            found.append((name.stream, name.number, numbers(unpacked(row.value))))
        return found

    async def events(self) -> list[int]:
        return [number for _, _, batch in await self.batches() for number in batch]

    async def empty(self) -> None:
        await self.client.delete(outbox_root(self.run_root), prefix=True)
