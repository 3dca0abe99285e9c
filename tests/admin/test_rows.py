"""Reading resources from a real etcd, and etcd's troubles in words."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from aisix_admin.errors import StoreAway, Unknown
from aisix_admin.rows import IN_DOUBT, MOST_TOGETHER, EtcdRows, Roots, Row, Sent, asking
from aisix_common.errors import StoreDenied, StoreError, StoreRejected, StoreUnavailable
from aisix_common.secrets.canary import canary_key
from aisix_common.store.client import EtcdClient, EtcdOptions

from tests.support.etcd import EtcdServer


@pytest.fixture
async def client(etcd: EtcdServer) -> AsyncIterator[EtcdClient]:
    async with EtcdClient(EtcdOptions(endpoints=(etcd.endpoint,))) as connected:
        yield connected


@pytest.fixture
def roots(etcd_prefix: str) -> Roots:
    return Roots(f"{etcd_prefix}/aisix", f"{etcd_prefix}/run", f"{etcd_prefix}/ext")


async def write(client: EtcdClient, roots: Roots, ids: Sequence[str], kind: str = "models") -> None:
    for id in ids:
        await client.put(roots.resource(kind, id), f'"{id}"'.encode())


def ids(rows: Sequence[Row]) -> list[str]:
    return [row.id for row in rows]


def test_keys_of_each_kind_of_row() -> None:
    roots = Roots("/aisix", "/run/aisix", "/ext/aisix")
    assert roots.resource("models", "a/b") == "/aisix/models/a/b"
    assert roots.resource("secret_providers", "1") == "/ext/aisix/secret_providers/1"
    assert roots.history("secret_providers", "1") == "/run/aisix/history/secret_providers/1"
    assert (roots.turn(), roots.turn(external=True)) == ("/run/aisix/turn", "/run/aisix/turn-ext")
    assert roots.canary == canary_key("/run/aisix")
    assert roots.history("models", "1") == "/run/aisix/history/models/1"
    assert roots.audit("8-x") == "/run/aisix/audit/8-x" and roots.audit("") == "/run/aisix/audit/"


async def test_a_row_with_its_revisions(client: EtcdClient, roots: Roots) -> None:
    rows = EtcdRows(client, roots)
    created = await client.put(roots.resource("models", "a"), b"1")
    changed = await client.put(roots.resource("models", "a"), b"2")
    assert await rows.get("models", "a") == Row("a", b"2", changed, created)
    with pytest.raises(Unknown):
        await rows.get("models", "b")
    with pytest.raises(Unknown):
        await rows.get("model", "s/a")


async def test_lists_are_of_one_kind_in_the_order_of_ids(client: EtcdClient, roots: Roots) -> None:
    rows = EtcdRows(client, roots)
    assert await rows.list("models") == ()
    await write(client, roots, ["b", "a/c", "a", "\u00e9", "B"])
    await write(client, roots, ["x"], "models2")
    assert ids(await rows.list("models")) == ["B", "a", "a/c", "b", "\u00e9"]


@pytest.mark.parametrize("nameless", [False, True])
async def test_pages(client: EtcdClient, roots: Roots, nameless: bool) -> None:
    rows = EtcdRows(client, roots)
    await write(client, roots, ["a", "a/b", "b", "c"] + ([""] if nameless else []))
    await write(client, roots, ["x"], "models2")
    assert ids(await rows.page("models", "", 2)) == ["a", "a/b"], "a foreign row without an id is not counted"
    assert ids(await rows.page("models", "a", 2)) == ["a/b", "b"]
    assert ids(await rows.page("models", "b", 2)) == ["c"]
    assert ids(await rows.page("models", "c", 2)) == []
    assert ids(await rows.page("models", "aa", 9)) == ["b", "c"], "the row itself may be gone"
    assert ids(await rows.list("models")) == ["a", "a/b", "b", "c"]


async def test_some_rows_in_the_order_asked_for(client: EtcdClient, roots: Roots) -> None:
    rows = EtcdRows(client, roots)
    many = [f"{n:03}" for n in range(MOST_TOGETHER + 5)]
    await write(client, roots, many)
    assert ids(await rows.some("models", [*many[::-1], "nobody"])) == many[::-1]
    assert ids(await rows.some("models", ["004", "nobody", "002"])) == ["004", "002"]
    assert await rows.some("models", []) == ()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (StoreUnavailable("10.0.0.1 canary"), "etcd cannot be reached"),
        (TimeoutError(), "etcd cannot be reached"),
        (StoreDenied("canary"), "etcd refused us"),
        (StoreRejected("canary"), "etcd refused the request"),
    ],
)
async def test_troubles_in_words_for_operators(error: Exception, message: str) -> None:
    with pytest.raises(StoreAway) as away:
        async with asking():
            raise error
    assert away.value.message.startswith(message) and "canary" not in away.value.message
    assert away.value.__cause__ is error


@pytest.mark.parametrize("sent", [Sent(in_flight=True), Sent(lost=True)])
async def test_a_write_in_doubt_is_said_to_be(sent: Sent) -> None:
    for error in (StoreUnavailable("x"), TimeoutError(), StoreDenied("x"), StoreRejected("x")):
        with pytest.raises(StoreAway) as away:
            async with asking(sent):
                raise error
        assert away.value.message == IN_DOUBT
    with pytest.raises(StoreAway) as away:
        async with asking(Sent()):
            raise StoreUnavailable("x")
    assert away.value.message != IN_DOUBT


async def test_what_is_not_of_etcd_passes() -> None:
    for error in (Unknown(), ValueError(), asyncio.CancelledError()):
        with pytest.raises(type(error)) as passed:
            async with asking():
                raise error
        assert passed.value is error
    assert not issubclass(StoreAway, StoreError), "the caller's tree, not the client's"
