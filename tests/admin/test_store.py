"""Writes under trouble: lost answers, foreign writers, an etcd that is away."""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from aisix_admin.store import Etcd
from aisix_common.errors import StoreUnavailable
from aisix_common.store.client import EtcdClient
from aisix_common.store.types import Compare, KeyValue, Operation, RangeResult, TransactionResult

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

    async def get(self, key: str) -> KeyValue | None:
        return await self._client.get(key)

    async def range(self, prefix: str, *, limit: int = 0, revision: int = 0) -> RangeResult:
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
