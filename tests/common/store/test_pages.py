"""Rows page by page are all rows, at one revision."""

from collections.abc import Sequence

import pytest

from aisix_common.errors import Compacted, StoreUnavailable
from aisix_common.store import etcd_pb2 as pb
from aisix_common.store.client import EtcdClient, EtcdOptions
from aisix_common.store.pages import pages
from aisix_common.store.watch import list_all

from tests.support.etcd import EtcdServer


@pytest.mark.parametrize(("count", "limit", "sizes"), [(0, 2, [0]), (2, 2, [2]), (5, 2, [2, 2, 1]), (5, 100, [5])])
async def test_all_rows_in_key_order(
    client: EtcdClient, etcd_prefix: str, count: int, limit: int, sizes: list[int]
) -> None:
    for n in range(count):
        await client.put(f"{etcd_prefix}/{n}", b"v")
    await client.put(f"{etcd_prefix}-sibling", b"v")
    found = [page async for page in pages(client, f"{etcd_prefix}/", limit=limit)]
    assert [len(page.rows) for page in found] == sizes
    assert [row.key for page in found for row in page.rows] == [f"{etcd_prefix}/{n}" for n in range(count)]


async def test_all_pages_are_of_one_revision(client: EtcdClient, etcd_prefix: str) -> None:
    for n in range(4):
        revision = await client.put(f"{etcd_prefix}/{n}", b"old")
    values = []
    async for page in pages(client, f"{etcd_prefix}/", limit=2):
        assert page.revision >= revision
        values += [row.value for row in page.rows]
        await client.put(f"{etcd_prefix}/3", b"new")
    assert values == [b"old"] * 4
    as_of = [row.value async for page in pages(client, f"{etcd_prefix}/", revision=revision) for row in page.rows]
    assert as_of == [b"old"] * 4


async def test_a_revision_that_is_gone_is_told(fresh_client: EtcdClient) -> None:
    revision = await fresh_client.put("/p/a", b"1")
    await fresh_client.compact(await fresh_client.put("/p/a", b"2"))
    with pytest.raises(Compacted):
        await anext(pages(fresh_client, "/p/", revision=revision))


async def test_keys_that_are_no_text_end(client: EtcdClient, etcd: EtcdServer, etcd_prefix: str) -> None:
    for last in ("\ufffd", "\udcff"):  # the second is the byte 0xff, and reads as the first
        etcd.ctl("put", f"{etcd_prefix}/{last}", "v")
    found = [row async for page in pages(client, f"{etcd_prefix}/", limit=1) for row in page.rows]
    assert [row.key for row in found] == [f"{etcd_prefix}/\ufffd"] * 2


def page(*names: str, more: bool = False, count: int = 0) -> pb.RangeResponse:
    return pb.RangeResponse(kvs=[pb.KeyValue(key=f"/p/{name}".encode()) for name in names], more=more, count=count)


CONTRADICTIONS = {
    "more of nothing": [page(more=True)],
    "more of nothing, later": [page("a", more=True), page(more=True)],
    "fewer than there are": [page("a", count=2)],
    "all but one of which are missing": [page("a", more=True, count=3), page("b", count=2)],
    "the same for ever": [page("a", "b", more=True), page("a", "b", more=True)],
}


class Facade(EtcdClient):
    """Answers as it likes."""

    def __init__(self, answers: Sequence[pb.RangeResponse]) -> None:
        super().__init__(EtcdOptions(endpoints=("http://127.0.0.1:1",)))
        self._answers = iter(answers)

    async def read(self, request: pb.RangeRequest, *, patient: bool = True) -> pb.RangeResponse:
        return next(self._answers)


@pytest.mark.parametrize("answers", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
async def test_a_part_does_not_pass_for_all(answers: Sequence[pb.RangeResponse]) -> None:
    async with Facade(answers) as client:
        with pytest.raises(StoreUnavailable, match="other rows"):
            _ = [found async for found in pages(client, "/p/")]
    async with Facade(answers) as client:
        with pytest.raises(StoreUnavailable, match="other rows"):
            await list_all(client, "/p/")


async def test_a_facade_need_not_count() -> None:
    async with Facade([page("a", more=True), page("b")]) as client:
        assert [len(found.rows) async for found in pages(client, "/p/")] == [1, 1]
