"""An etcd client that counts the rows it was asked to read."""

from collections.abc import Sequence

from aisix_common.store.client import EtcdClient
from aisix_common.store.types import Compare, KeyValue, Operation, RangeResult, TransactionResult


class Counting:
    """Stands between the admin and its client; `rows` is what reads brought, or asked for where it was one row."""

    def __init__(self, client: EtcdClient) -> None:
        self._client = client
        self.rows = 0
        self.reads = 0
        """Calls that read."""
        self.transactions = 0

    async def get(self, key: str) -> KeyValue | None:
        self.reads, self.rows = self.reads + 1, self.rows + 1
        return await self._client.get(key)

    async def range(self, prefix: str, *, limit: int = 0, revision: int = 0) -> RangeResult:
        found = await self._client.range(prefix, limit=limit, revision=revision)
        self.reads, self.rows = self.reads + 1, self.rows + len(found.rows)
        return found

    async def page(
        self, prefix: str, *, after: str = "", limit: int, start: str = "", revision: int = 0
    ) -> RangeResult:
        found = await self._client.page(prefix, after=after, limit=limit, start=start, revision=revision)
        self.reads, self.rows = self.reads + 1, self.rows + len(found.rows)
        return found

    async def together(self, keys: Sequence[str]) -> tuple[tuple[KeyValue | None, ...], int]:
        self.reads, self.rows = self.reads + 1, self.rows + len(keys)
        return await self._client.together(keys)

    async def txn(
        self, compare: Sequence[Compare], success: Sequence[Operation], failure: Sequence[Operation] = ()
    ) -> TransactionResult:
        self.transactions += 1
        return await self._client.txn(compare, success, failure)
