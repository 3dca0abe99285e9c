"""What comes from the Cloud: lists of one revision, and an inbox that loses nothing and holds no more than it may."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import grpc
import pytest

from aisix_cloud_agent.projection.cloud_rows import (
    FEW,
    GROUP_EVENTS,
    MOST_EVENTS,
    CloudAway,
    Event,
    Inbox,
    batches,
    in_the_cloud,
    serves_ext,
    whole,
)
from aisix_common.errors import StoreRejected
from aisix_common.store import etcd_pb2 as pb
from aisix_common.store.client import EtcdClient, EtcdOptions
from aisix_common.store.failures import typed
from aisix_common.store.types import Changes, Deleted, KeyValue, Listing

from tests.support.etcd import EtcdServer, free_port


def row(key: str, revision: int, value: bytes = b"{}") -> KeyValue:
    return KeyValue(key, value, revision, revision)


def changes(*events: Event) -> Changes:
    return Changes(events, events[-1].mod_revision)


EMPTY = Listing((), 1)
INBOX = Inbox(2, lambda: 0.0)


async def listed(roots: int = 2) -> Inbox:
    """An inbox whose lists have been taken."""
    inbox = Inbox(roots, lambda: 7.0)
    for root in range(roots):
        await inbox.put(root, EMPTY)
    await inbox.take(1)
    return inbox


async def test_nothing_is_handed_out_before_every_root_was_listed() -> None:
    inbox = Inbox(2, lambda: 7.0)
    await inbox.put(0, EMPTY)
    await inbox.put(0, changes(row("a", 2)))
    assert (await inbox.take(0.01)).listings == {}
    await inbox.put(1, Listing((row("x", 1),), 3))
    taken = await inbox.take(1)
    assert set(taken.listings) == {0, 1}
    assert taken.events == [row("a", 2)]
    assert taken.since == 7.0
    assert (await inbox.take(0.01)).events == []


async def test_the_roots_meet_in_the_order_of_revisions() -> None:
    inbox = await listed()
    await inbox.put(1, changes(row("x", 5), row("y", 8)))
    await inbox.put(0, changes(row("a", 4), row("b", 5)))
    await inbox.put(0, changes(Deleted("c", 9)))
    events = (await inbox.take(1)).events
    assert [event.mod_revision for event in events] == [4, 5, 5, 8, 9]
    assert {event.key for event in events if event.mod_revision == 5} == {"b", "x"}


async def test_a_list_replaces_what_its_root_has_brought() -> None:
    inbox = await listed()
    await inbox.put(0, changes(row("a", 4)))
    await inbox.put(1, changes(row("x", 5)))
    await inbox.put(0, Listing((row("b", 2),), 6))
    taken = await inbox.take(1)
    assert taken.events == [row("x", 5)]
    assert set(taken.listings) == {0}


@pytest.mark.parametrize("value", [b"", b"x" * 1_500_000])
async def test_a_full_inbox_lets_the_watches_wait(value: bytes) -> None:
    inbox = await listed()
    one = changes(*(row(f"{n}", 4, value) for n in range(2 if value else MOST_EVENTS)))
    await inbox.put(0, one)
    waiting = asyncio.get_running_loop().create_task(inbox.put(1, one))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    assert len((await inbox.take(1)).events) == len(one.events)
    await waiting
    assert len((await inbox.take(1)).events) == len(one.events)


async def test_a_closed_inbox_is_no_wait() -> None:
    inbox = await listed()
    taking = asyncio.get_running_loop().create_task(inbox.take(60))
    await asyncio.sleep(0)
    inbox.close()
    assert (await taking).events == []
    assert inbox.closed


GROUPS: list[tuple[Sequence[Event], list[tuple[int, int]]]] = [
    ([], []),
    ([row("a", 4), row("b", 5), row("c", 5), Deleted("a", 6)], [(4, 1), (5, 2), (6, 1)]),
    ([row(f"{n}", n) for n in range(FEW)], [(n, 1) for n in range(FEW)]),
    ([row("same", n) for n in range(FEW + 1)], [(FEW, 1)]),
    ([row(f"{n}", n) for n in range(200)], [(GROUP_EVENTS - 1, 90), (2 * GROUP_EVENTS - 1, 90), (199, 20)]),
    ([row(f"{n}", n // 60) for n in range(60 * 20)], [(n, 60) for n in range(20)]),
    ([row(f"{n}", n, b"x" * 100_000) for n in range(20)], [(n, 2) for n in range(1, 20, 2)]),
]


@pytest.mark.parametrize(("events", "expected"), GROUPS)
def test_a_revision_is_never_cut(events: Sequence[Event], expected: list[tuple[int, int]]) -> None:
    made = list(batches(events))
    assert [(each.revision, len(each.events)) for each in made] == expected
    assert len({event.key for each in made for event in each.events}) == len({event.key for event in events})


def test_of_revisions_that_are_projected_together_the_last_one_counts() -> None:
    events: list[Event] = [*(row("a", n) for n in range(FEW)), row("b", FEW), Deleted("a", FEW + 1)]
    (made,) = batches(events)
    assert {event.key: event for event in made.events} == {"a": Deleted("a", FEW + 1), "b": row("b", FEW)}


@pytest.fixture
async def client(etcd: EtcdServer) -> AsyncIterator[EtcdClient]:
    async with EtcdClient(EtcdOptions(endpoints=(etcd.endpoint,))) as client:
        yield client


async def test_a_list_is_of_one_revision(client: EtcdClient, etcd_prefix: str) -> None:
    roots = (f"{etcd_prefix}/a/", f"{etcd_prefix}/b/")
    await client.put(roots[0] + "1", b"1")
    at = await client.put(roots[1] + "1", b"1")
    first = await client.range(roots[0])
    last = await client.put(roots[1] + "2", b"later")
    known = {0: Listing(first.rows, at)}
    assert await whole(client, roots, known, at, INBOX) == Listing(
        (*first.rows, *(await client.range(roots[1], revision=at)).rows), at
    )
    assert known == {}
    fresh = await whole(client, roots, {0: Listing((), at)}, last, INBOX)
    assert (len(fresh.rows), fresh.revision >= last) == (3, True), "a list older than what was projected is not used"
    both = {0: Listing((), last + 7), 1: Listing((), last + 7)}
    assert await whole(client, roots, both, last, INBOX) == Listing((), last + 7)
    apart = {0: Listing((*first.rows, *first.rows, *first.rows), at), 1: Listing((), last)}
    newer = await whole(client, roots, apart, at, INBOX)
    assert newer.revision >= last, "what is behind a list that its watch has brought is brought by nobody any more"
    assert await serves_ext(client, roots)


async def test_a_list_is_given_up_between_two_pages(client: EtcdClient) -> None:
    async with Facade(EtcdOptions(endpoints=("http://127.0.0.1:1",))) as facade:
        closed = Inbox(2, lambda: 0.0)
        closed.close()
        with pytest.raises(CloudAway, match="followed anew"):
            await whole(facade, ("/a/", "/c/"), {}, 0, closed)
        assert await whole(facade, ("/a/", "/c/"), {}, 0, INBOX) == Listing((), 0)


async def test_who_does_not_answer_gives_no_list() -> None:
    async with EtcdClient(EtcdOptions(endpoints=(f"http://127.0.0.1:{free_port()}",), request_timeout=1)) as nobody:
        with pytest.raises(CloudAway):
            await whole(nobody, ("/a/", "/b/"), {}, 0, INBOX)
        with pytest.raises(CloudAway):
            await serves_ext(nobody, ("/a/", "/b/"))


class Facade(EtcdClient):
    """Of a Cloud that knows no other roots than its own."""

    async def read(self, request: pb.RangeRequest, *, patient: bool = True) -> pb.RangeResponse:
        if request.key == b"/b/":
            raise StoreRejected("no such range")
        return pb.RangeResponse()


async def test_a_cloud_may_say_in_its_own_words_that_it_serves_no_ext_root() -> None:
    async with Facade(EtcdOptions(endpoints=("http://127.0.0.1:1",))) as client:
        assert not await serves_ext(client, ("/a/", "/b/"))
        with pytest.raises(CloudAway):
            await serves_ext(client, ("/b/", "/b/"))


@pytest.mark.parametrize("code", [grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAVAILABLE])
@pytest.mark.parametrize("details", ["etcdserver: permission denied", "CERTIFICATE_VERIFY_FAILED"])
def test_nobody_is_sent_to_the_settings_of_the_local_etcd(code: grpc.StatusCode, details: str) -> None:
    said = in_the_cloud(str(typed(code, details, "cloud.test:443")))
    assert "etcd." not in said
    assert "cloud.test:443" in said
    if code is grpc.StatusCode.PERMISSION_DENIED:
        assert "managed.cp_ca_cert_file" in said
