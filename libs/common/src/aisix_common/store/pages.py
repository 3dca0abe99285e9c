"""Rows under a prefix at one revision, page by page, for who must not have all of them in memory."""

from collections.abc import AsyncGenerator
from typing import Final

from aisix_common.errors import StoreUnavailable

from . import etcd_pb2 as pb
from .client import EtcdClient
from .messages import rows, span
from .types import RangeResult

ROWS: Final = 1000


async def pages(
    client: EtcdClient, prefix: str, *, revision: int = 0, limit: int = ROWS
) -> AsyncGenerator[RangeResult, None]:
    """All rows whose key starts with `prefix`, in key order, `limit` at a time, at least one page.

    `revision`: as of then; 0: as of the first page, whose `revision` all have. Raises StoreError; Compacted when that
    revision is gone.
    """
    start, end = span(prefix, prefix=True)
    cluster = 0
    while True:
        request = pb.RangeRequest(key=start, range_end=end, limit=limit, revision=revision)
        answer = await client.read(request, patient=False)
        cluster = cluster or answer.header.cluster_id
        if answer.header.cluster_id != cluster:
            raise StoreUnavailable("etcd was replaced while it was read")
        revision = revision or answer.header.revision
        last = is_last(request, answer)
        yield RangeResult(rows(answer.kvs), revision, answer.more, answer.count)
        if last:
            return
        start = answer.kvs[-1].key + b"\0"  # not from the text: what is no UTF-8 would be read again for ever


def is_last(request: pb.RangeRequest, answer: pb.RangeResponse) -> bool:
    """Whether no page follows this one. Raises StoreUnavailable for an answer that contradicts the question or itself,
    as a façade may give it: a part must not pass for all, nor the same page come for ever."""
    short = not answer.kvs if answer.more else answer.count > len(answer.kvs)
    if short or (answer.kvs and answer.kvs[0].key < request.key):
        raise StoreUnavailable("what answers as etcd gave other rows than it says there are")
    return not answer.more
