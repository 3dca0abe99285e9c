"""Writes under trouble: lost answers, foreign writers, an etcd that is away."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import structlog

from aisix_admin.errors import Conflict, StoreAway
from aisix_admin.follow import Follower
from aisix_admin.names import NameIndex, NameReader
from aisix_admin.store import DEADLINE, Draft, Etcd, ResourceStore, Roots
from aisix_common.clock import SYSTEM_CLOCK
from aisix_common.errors import StoreUnavailable
from aisix_common.logs import Logger
from aisix_common.store.client import EtcdClient
from aisix_common.store.types import (
    Compare,
    KeyValue,
    Listing,
    Operation,
    RangeResult,
    TransactionResult,
    WatchEvent,
)
from aisix_common.tasks import TaskOwner

from tests.support.admin import RunningAdmin, running_admin
from tests.support.cutproxy import CutProxy
from tests.support.etcd import EtcdServer

MODEL = {"display_name": "gpt", "provider": "openai", "model_name": "m", "provider_key_id": "k"}


def model(**changes: Any) -> dict[str, Any]:
    return {**MODEL, **changes}


class Unlucky:
    """An etcd client whose next transactions lose their answer: `plan` says for each what happens before it is lost."""

    def __init__(self, client: EtcdClient) -> None:
        self._client = client
        self.plan: list[Callable[[EtcdClient, Callable[[], Any]], Any]] = []
        self.transactions = 0
        self.late: Callable[[], Any] | None = None
        """Done before the next attempt looks: what took effect after everybody had stopped waiting for it."""

    async def get(self, key: str) -> KeyValue | None:
        return await self._client.get(key)

    async def range(self, prefix: str, *, limit: int = 0, revision: int = 0) -> RangeResult:
        if self.late is not None:
            late, self.late = self.late, None
            assert (await late()).succeeded
        return await self._client.range(prefix, limit=limit, revision=revision)

    async def txn(
        self, compare: Sequence[Compare], success: Sequence[Operation], failure: Sequence[Operation] = ()
    ) -> TransactionResult:
        self.transactions += 1
        if not self.plan:
            return await self._client.txn(compare, success, failure)
        await self.plan.pop(0)(self._client, lambda: self._client.txn(compare, success, failure))
        raise StoreUnavailable("the answer was lost")


async def committed(client: EtcdClient, txn: Callable[[], Any]) -> None:
    assert (await txn()).succeeded


async def never_arrived(client: EtcdClient, txn: Callable[[], Any]) -> None:
    return None


def takes_effect_late(luck: "Luck") -> Callable[[EtcdClient, Callable[[], Any]], Any]:
    async def step(client: EtcdClient, txn: Callable[[], Any]) -> None:
        assert luck.client is not None
        luck.client.late = txn

    return step


class Luck:
    """Keeps the client that `running_admin` wraps, for the test to plan with."""

    def __init__(self) -> None:
        self.client: Unlucky | None = None

    def __call__(self, client: EtcdClient) -> Etcd:
        self.client = Unlucky(client)
        return self.client

    def plan(self, *steps: Callable[[EtcdClient, Callable[[], Any]], Any]) -> None:
        assert self.client is not None
        self.client.plan = list(steps)


@pytest.mark.parametrize("step", [committed, never_arrived])
class TestLostAnswers:
    """A transaction that did or did not take effect, and whose answer never came."""

    async def test_create(self, etcd: EtcdServer, etcd_prefix: str, step: Any) -> None:
        luck = Luck()
        async with running_admin(etcd.endpoint, etcd_prefix, via=luck) as admin:
            luck.plan(step)
            status, entry = await admin.call("POST", "/models", model())
            assert status == 200, entry
            assert await admin.call("GET", "/models") == (200, [entry])

    async def test_replace(self, etcd: EtcdServer, etcd_prefix: str, step: Any) -> None:
        luck = Luck()
        async with running_admin(etcd.endpoint, etcd_prefix, via=luck) as admin:
            entry = await admin.create("models", model())
            luck.plan(step)
            status, body = await admin.call("PUT", f"/models/{entry['id']}", model(model_name="new"))
            assert status == 200, body
            row = await admin.etcd.get(f"{etcd_prefix}/models/{entry['id']}")
            assert row is not None and row.version == 2, "written once, not twice"
            assert row.mod_revision == body["revision"]

    async def test_delete(self, etcd: EtcdServer, etcd_prefix: str, step: Any) -> None:
        luck = Luck()
        async with running_admin(etcd.endpoint, etcd_prefix, via=luck) as admin:
            entry = await admin.create("models", model())
            luck.plan(step)
            status, body = await admin.call("DELETE", f"/models/{entry['id']}")
            assert status == 200, body
            assert await admin.call("GET", "/models") == (200, [])


async def test_writes_that_take_effect_late(etcd: EtcdServer, etcd_prefix: str) -> None:
    """Reading back showed that nothing had happened yet; the next attempt finds it done."""
    luck = Luck()
    async with running_admin(etcd.endpoint, etcd_prefix, via=luck) as admin:
        luck.plan(takes_effect_late(luck))
        status, entry = await admin.call("POST", "/models", model())
        assert status == 200 and await admin.call("GET", "/models") == (200, [entry])
        luck.plan(takes_effect_late(luck))
        status, body = await admin.call("PUT", f"/models/{entry['id']}", model(model_name="new"))
        assert status == 200 and await admin.call("GET", "/models") == (200, [body])
        luck.plan(takes_effect_late(luck))
        status, body = await admin.call("DELETE", f"/models/{entry['id']}")
        assert status == 200, body
        assert (await admin.call("DELETE", f"/models/{entry['id']}"))[0] == 404


class Frozen:
    """An etcd without rows, at one revision. Nothing it is asked to write gets an answer."""

    def __init__(self, *, revision: int, reads: bool = True) -> None:
        self._revision = revision
        self._reads = reads

    async def get(self, key: str) -> KeyValue | None:
        return None

    async def range(self, prefix: str, *, limit: int = 0, revision: int = 0) -> RangeResult:
        if not self._reads:
            await asyncio.Event().wait()
        return RangeResult((), self._revision)

    async def txn(
        self, compare: Sequence[Compare], success: Sequence[Operation], failure: Sequence[Operation] = ()
    ) -> TransactionResult:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")


def followed(etcd: Etcd, root: str) -> tuple[ResourceStore, Follower, asyncio.Queue[WatchEvent]]:
    """A store whose follower hears what the test puts in."""
    heard: asyncio.Queue[WatchEvent] = asyncio.Queue()

    async def events() -> AsyncIterator[WatchEvent]:
        while True:
            yield await heard.get()

    fields = {"models": "display_name"}
    log = cast("Logger", structlog.get_logger())
    follower = Follower(events, NameIndex(root, fields, NameReader(fields)), SYSTEM_CLOCK, log)
    return ResourceStore(etcd, Roots(root, f"/run{root}"), follower), follower, heard


DRAFT = Draft(json.dumps(MODEL).encode(), "gpt")


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("etcd_now", "seconds", "words"),
    [
        (Frozen(revision=7), DEADLINE, "may or may not have happened"),
        (Frozen(revision=7, reads=False), DEADLINE, "cannot be reached"),
        (Frozen(revision=6), 5, "went back in time"),
    ],
)
async def test_what_is_said_of_a_write_that_gets_no_answer(etcd_now: Frozen, seconds: float, words: str) -> None:
    store, follower, heard = followed(etcd_now, "/aisix")
    now = asyncio.get_running_loop().time
    async with TaskOwner() as tasks:
        tasks.spawn(follower.run(), name="follow")
        heard.put_nowait(Listing((), 7))
        await follower.until(lambda: follower.index.listed)
        began = now()
        with pytest.raises(StoreAway, match=words):
            await store.create("models", "id", DRAFT)
        assert now() - began == pytest.approx(seconds, abs=0.1)


async def test_names_are_not_claimed_by_an_index_that_etcd_went_back_behind(admin: RunningAdmin) -> None:
    """After a restore nothing is newer than what the index knew, whoever holds the name now."""
    store, follower, heard = followed(admin.etcd, admin.prefix)
    await admin.etcd.put(f"{admin.prefix}/models/theirs", DRAFT.value)
    async with TaskOwner() as tasks, asyncio.timeout(10):
        tasks.spawn(follower.run(), name="follow")
        heard.put_nowait(Listing((), 10**9))
        await follower.until(lambda: follower.index.listed)
        creating = tasks.spawn(store.create("models", "ours", DRAFT), name="create")
        await asyncio.wait([creating], timeout=0.3)
        assert not creating.done()
        found = await admin.etcd.range(admin.prefix + "/")
        heard.put_nowait(Listing(found.rows, found.revision))
        with pytest.raises(Conflict):
            await creating
        other = await store.create("models", "ours", Draft(json.dumps(model(display_name="free")).encode(), "free"))
        assert other.revision > found.revision


async def test_a_lost_put_that_others_overwrote_is_not_put_again(etcd: EtcdServer, etcd_prefix: str) -> None:
    luck = Luck()
    async with running_admin(etcd.endpoint, etcd_prefix, via=luck) as admin:
        entry = await admin.create("models", model())
        key = f"{etcd_prefix}/models/{entry['id']}"
        theirs = json.dumps(model(model_name="theirs")).encode()

        async def overwritten(client: EtcdClient, txn: Callable[[], Any]) -> None:
            await committed(client, txn)
            await client.put(key, theirs)

        luck.plan(overwritten)
        status, body = await admin.call("PUT", f"/models/{entry['id']}", model(model_name="ours"))
        assert status == 503 and "read it" in body["error_msg"]
        row = await admin.etcd.get(key)
        assert row is not None and row.value == theirs


async def test_a_row_that_changes_meanwhile_is_decided_again(etcd: EtcdServer, etcd_prefix: str) -> None:
    """A PUT with a mask takes the secret that is stored when it is written, not the one it saw first."""
    luck = Luck()
    async with running_admin(etcd.endpoint, etcd_prefix, via=luck) as admin:
        entry = await admin.create("provider_keys", {"display_name": "p", "api_key": "first"})
        key = f"{etcd_prefix}/provider_keys/{entry['id']}"

        async def changed_before(client: EtcdClient, txn: Callable[[], Any]) -> None:
            await client.put(key, json.dumps({"display_name": "p", "api_key": "second"}).encode())

        luck.plan(changed_before)
        status, body = await admin.call("PUT", f"/provider_keys/{entry['id']}", {**entry["value"], "display_name": "q"})
        assert status == 200, body
        row = await admin.etcd.get(key)
        assert row is not None and json.loads(row.value)["api_key"] == "second"


async def test_names_of_foreign_writers_count(admin: RunningAdmin) -> None:
    """Written directly to etcd a moment before: the index cannot know it yet, the transaction does."""
    await admin.create("models", model(display_name="other"))
    for n in range(20):
        await admin.etcd.put(f"{admin.prefix}/models/foreign-{n}", json.dumps(model(display_name=f"name-{n}")).encode())
        status, _ = await admin.call("POST", "/models", model(display_name=f"name-{n}"))
        assert status == 409
        await admin.etcd.delete(f"{admin.prefix}/models/foreign-{n}")
        status, _ = await admin.call("POST", "/models", model(display_name=f"name-{n}"))
        assert status == 200, "the name is free as soon as its holder is gone"


async def test_two_admins_share_the_names(etcd: EtcdServer, etcd_prefix: str) -> None:
    async with running_admin(etcd.endpoint, etcd_prefix) as one, running_admin(etcd.endpoint, etcd_prefix) as other:
        for n in range(5):
            both = await asyncio.gather(
                *(each.call("POST", "/models", model(display_name=f"n{n}")) for each in (one, other) for _ in range(4))
            )
            assert sorted(status for status, _ in both) == [200] + [409] * 7
        assert (await one.call("GET", "/models"))[1] == (await other.call("GET", "/models"))[1]


async def test_many_writes_need_no_retries(etcd: EtcdServer, etcd_prefix: str) -> None:
    """Our own writers take turns: one transaction each, and no list of the kind."""
    luck = Luck()
    async with running_admin(etcd.endpoint, etcd_prefix, via=luck) as admin:
        answers = await asyncio.gather(*(admin.call("POST", "/models", model(display_name=f"n{n}")) for n in range(30)))
        assert {status for status, _ in answers} == {200}
        assert luck.client is not None and luck.client.transactions <= 31


async def test_etcd_away_and_back(fresh_etcd: EtcdServer, etcd_prefix: str) -> None:
    async with running_admin(fresh_etcd.endpoint, etcd_prefix, request_timeout=0.5) as admin:
        entry = await admin.create("models", model())
        await asyncio.to_thread(fresh_etcd.kill)
        for method, path, body in (
            ("GET", "/models", None),
            ("GET", f"/models/{entry['id']}", None),
            ("GET", "/health", None),
            ("POST", "/models", model(display_name="new")),
            ("PUT", f"/models/{entry['id']}", model()),
            ("DELETE", f"/models/{entry['id']}", None),
        ):
            status, answer = await admin.call(method, path, body)
            assert status == 503, (method, answer)
            assert "etcd" in answer["error_msg"] and str(fresh_etcd.port) not in json.dumps(answer)
        assert (await admin.send("GET", "/readyz", headers={})).status == 200, "an outage of etcd is no reason to leave"
        await asyncio.to_thread(fresh_etcd.start)
        async with asyncio.timeout(20):
            while (await admin.call("GET", "/models"))[0] != 200:
                await asyncio.sleep(0.05)
            status, body = await admin.call("POST", "/models", model(display_name="new"))
            assert status == 200, body
        assert [each["value"]["display_name"] for each in (await admin.call("GET", "/models"))[1]].count("new") == 1


async def test_names_after_a_restore(fresh_etcd: EtcdServer, etcd_prefix: str, tmp_path: Path) -> None:
    """A name that was free when etcd went back to a backup in which it is taken."""
    async with running_admin(fresh_etcd.endpoint, etcd_prefix) as admin:
        entry = await admin.create("models", model())
        await asyncio.to_thread(fresh_etcd.snapshot, tmp_path / "backup")
        await admin.call("DELETE", f"/models/{entry['id']}")
        for n in range(20):
            await admin.create("models", model(display_name=f"n{n}"))
        await asyncio.to_thread(fresh_etcd.restore, tmp_path / "backup")
        async with asyncio.timeout(30):
            while (answer := await admin.call("POST", "/models", model()))[0] == 503:
                await asyncio.sleep(0.01)
        assert answer[0] == 409
        assert [each["id"] for each in (await admin.call("GET", "/models"))[1]] == [entry["id"]]


async def test_a_cut_link_under_writes(etcd: EtcdServer, etcd_prefix: str) -> None:
    """Connections are reset under a stream of creates: what was answered 200 is there, once."""
    async with CutProxy(etcd.port) as link, running_admin(link.endpoint, etcd_prefix) as admin:
        accepted: dict[str, str] = {}
        for n in range(40):
            if n % 4 == 0:
                link.cut_after(200 + 37 * n)
            status, body = await admin.call("POST", "/models", model(display_name=f"n{n}"))
            if status == 200:
                accepted[body["id"]] = body["value"]["display_name"]
            else:
                assert status == 503, body
        async with asyncio.timeout(20):
            while (await admin.call("GET", "/models"))[0] != 200:
                await asyncio.sleep(0.05)
        _, listed = await admin.call("GET", "/models")
        there = {entry["id"]: entry["value"]["display_name"] for entry in listed}
        assert accepted.items() <= there.items()
        assert len(set(there.values())) == len(there), "no name twice"
        assert len(accepted) > 30
